#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/recipe/cluster_recipe.h"
#include "src/recipe/rotation_recipe.h"

namespace lrq::recipe {

// Enumerations are spelled in TOML as their names in lower case without the k ("tied").
enum class Per { kChannel, kGroup };
enum class ClipKind { kLearned, kNone, kRatio };
enum class QkvGranularity { kFamily, kPerHead, kPerToken };
enum class Start { kLae, kSmoothquant, kOnes };
enum class Scale { kLearned, kFixed, kOff };
enum class Shift { kLearned, kStatistic, kOff };
enum class Qk { kTied, kFree, kOff };
enum class Parametrization { kLog, kAbsolute };
enum class RotationForm { kOff, kRow, kOuter };
enum class Rounding { kNearest, kGptq };
enum class GptqInputs { kQuantized, kPlain };
enum class RotationLayers { kAll, kQOUp };  // "all", "q,o,up"
enum class Balance { kSum, kEma };
enum class MseScale { kPlain, kTokenEnergy };
enum class MassiveTokens { kKeep, kDownweight, kDrop };
enum class NlcReduction { kTokenMeanThenLog, kTokenLogThenMean, kFlattened };
enum class Schedule { kWaves, kIndependent };
enum class Emit { kPre, kPost };
enum class LrSchedule { kConstant, kLinear };
enum class Nonfinite { kRestore, kStop };
enum class TtaInit { kStart, kCalibrated };
enum class TtaScope { kSet, kSequence };
enum class TtaTarget { kHomologous, kFpChain };  // "homologous", "fp_chain"
enum class TtaInput { kBlocks, kEmbedding };
enum class Store { kCompute, kFloat32, kBfloat16 };

/// Everything that says how to quantize, and nothing that says where or on what.
struct Recipe {
  std::string name;
  struct Weights {
    int bits = 0;  ///< 0: not given (a method file has none); 16: not quantized
    Per per = Per::kChannel;
    int group_size = 0;  ///< with per = group
    bool symmetric = false;
    bool zero_point = true;
    ClipKind clip = ClipKind::kLearned;
    double clip_ratio = 1.0;  ///< TOML: clip = 0.9
    bool include_zero = false;
    Rounding rounding = Rounding::kNearest;  ///< of the finished block; gptq: wave = 1 only
  } weights;
  struct Activations {
    int bits = 16;
    bool symmetric = false;
    int kv_bits = 0;  ///< 0: as bits
    bool quantize_q = true;
    bool quantize_kv = true;
    QkvGranularity qkv_granularity = QkvGranularity::kFamily;
    ClipKind clip = ClipKind::kNone;  ///< of linear inputs, queries and keys
    double clip_ratio = 1.0;          ///< TOML: clip = 0.9
    double clip_start = 0.982;        ///< with clip = learned: where the factors begin
    int exact_tokens = 0;  ///< the first so many positions of a sequence are not quantized
  } activations;
  struct Smoothing {
    Start start = Start::kLae;
    double alpha = 0.5;
    Scale scale = Scale::kLearned;
    Shift shift = Shift::kLearned;
    Qk qk = Qk::kTied;
    bool down = false;  ///< also between the MLP's hidden channels and its last linear
    Parametrization parametrization = Parametrization::kLog;
  } smoothing;
  using Rotation = RotationRecipe;
  Rotation rotation;
  ClusterRecipe clusters;
  struct RotationVectors {
    RotationForm form = RotationForm::kOff;
    RotationLayers layers = RotationLayers::kAll;
    int rank = 1;     ///< with form = outer
    double lr = 0.0;  ///< 0: as train.let_lr
  } rotation_vectors;
  struct Loss {
    double mse_p = 1.0;
    double nlc_p = 1.0;
    double mse_r = 0.0;
    double nlc_r = 0.0;
    Balance balance = Balance::kSum;
    MseScale mse_scale = MseScale::kPlain;
    MassiveTokens massive_tokens = MassiveTokens::kKeep;
    double massive_above = 10.0;  ///< times the median norm of a sample's tokens
    NlcReduction nlc_reduction = NlcReduction::kTokenMeanThenLog;
    bool nlc_abs = false;
  } loss;
  struct Train {
    int epochs = 20;
    double let_lr = 1e-3;
    double lwc_lr = 1e-2;
    double wd = 0.0;
    int batch_size = 1;
    Schedule schedule = Schedule::kWaves;
    int wave = 8;
    Emit emit = Emit::kPre;
    LrSchedule lr_schedule = LrSchedule::kConstant;
    Nonfinite nonfinite = Nonfinite::kRestore;
    bool keep_best = false;
    Store store = Store::kCompute;
  } train;
  /// With weights.rounding = gptq.
  struct Gptq {
    double damping = 0.01;                       ///< times the mean of the Hessian's diagonal
    bool act_order = false;                      ///< columns by falling diagonal
    GptqInputs inputs = GptqInputs::kQuantized;  ///< what the Hessians see
    bool sequential = true;  ///< a linear's inputs come from linears rounded before it
  } gptq;
  /// Test-time adaptation of the last block, by `eval --tta`.
  struct Tta {
    TtaInit init = TtaInit::kStart;
    TtaScope scope = TtaScope::kSet;
    TtaTarget target = TtaTarget::kHomologous;
    bool skip_calib_set = true;
    TtaInput input = TtaInput::kBlocks;  ///< embedding: parity with the published code
    bool act_quant = true;               ///< false: likewise
    int epochs = 5;
    double let_lr = 0.0;  ///< 0: as train.let_lr
    double lwc_lr = 1e-2;
  } tta;
};

/// Every field as ("table.field", value as TOML text), in the order of the struct: what the
/// manifest stores and compares, and what `recipe show` prints.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> fields(const Recipe& recipe);

/// Those that a calibration depends on: all but the table tta.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> calibration_fields(
    const Recipe& recipe);

/// Check that the values fit together.  Throws UsageError naming the field.
void validate(const Recipe& recipe);

}  // namespace lrq::recipe
