#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "src/base/ids.h"
#include "src/models/cluster_method.h"
#include "src/models/model_config.h"
#include "src/quant/fake_quant.h"
#include "src/transform/transform.h"

namespace lrq::models {

using NamedTensors = std::map<std::string, at::Tensor>;

/// Places in a block where an activation may be observed, transformed or quantized.
enum class Site { kQkvIn, kQuery, kKey, kValue, kOutIn, kMlpIn, kDownIn };
inline constexpr std::array kAllSites = {Site::kQkvIn, Site::kQuery, Site::kKey,   Site::kValue,
                                         Site::kOutIn, Site::kMlpIn, Site::kDownIn};
/// "qkv_in", "query", ... : the names in statistics files.
[[nodiscard]] std::string_view site_name(Site site);

/// Called at every site with the tensor [1, T, C], float32; what it returns is used instead.
/// kQuery, kKey and kValue come as the family has them where it quantizes them: [1, heads, T, D]
/// after RoPE and before key/value heads are repeated (rotary families), [1, T, C] after the
/// queries are scaled and before heads are split (OPT).
using SiteFunction = std::function<at::Tensor(Site, const at::Tensor&)>;

struct TensorSpec {
  std::string name;  ///< full name in the checkpoint
  std::vector<std::int64_t> shape;
};

struct LinearSpec {
  std::string name;  ///< within the block: "self_attn.q_proj"
  std::int64_t out = 0;
  std::int64_t in = 0;
  bool bias = false;  ///< the checkpoint has one
  Site input = Site::kQkvIn;
};

/// A norm whose scale and shift move into the linears that read it.
struct NormPair {
  std::string name;                    ///< "qkv": learnables qkv_smooth_scale, qkv_smooth_shift
  std::string norm;                    ///< "input_layernorm"
  std::vector<std::string> consumers;  ///< linears that read it
  std::string statistic_of;            ///< the linear whose weight the SmoothQuant start uses
  Site site = Site::kQkvIn;            ///< whose statistics start it
};

/// A linear whose output channels reach another linear one by one: values -> attention output, and
/// the MLP's last two (through an activation that lets a positive scale pass).
struct ValuePair {
  std::string name;      ///< "out"
  std::string producer;  ///< "self_attn.v_proj"
  std::string consumer;  ///< "self_attn.o_proj"
  Site site = Site::kOutIn;
  bool heads = true;  ///< with grouped queries each producing head serves several
};

/// What one block of a family is made of.
struct BlockSpec {
  std::vector<LinearSpec> linears;  ///< in the order of the forward pass
  std::vector<std::string> norms;
  std::vector<NormPair> norm_pairs;
  std::vector<ValuePair> value_pairs;
  std::string query = "self_attn.q_proj";  ///< the q.k scaling acts on these two
  std::string key = "self_attn.k_proj";
  /// Norms over each query and key head behind these two, one weight for all heads: the q.k scaling
  /// acts on them instead, as a norm undoes what scales the rows before it.  Both or none.
  std::string query_norm;
  std::string key_norm;
  double query_scale = 1.0;  ///< what queries are multiplied by before Site::kQuery sees them
  bool rotary = true;        ///< channels j and j + D/2 of a head turn together: tied q.k scales
  bool shift_starts_at_statistic = false;  ///< a learned shift; else it starts at zero
};

/// A linear layer as the forward pass uses it.
struct EffectiveLinear {
  at::Tensor weight;  ///< [O, I] compute dtype
  at::Tensor bias;    ///< [O] float32, or undefined
};
struct EffectiveNorm {
  at::Tensor weight;  ///< [C] float32
  at::Tensor bias;    ///< [C] float32, or undefined
};
/// A block ready to run: plain, fake-quantized under autograd, or folded.
struct EffectiveBlock {
  std::map<std::string, EffectiveLinear> linears;
  std::map<std::string, EffectiveNorm> norms;
  std::map<Site, transform::Chain> maps;  ///< on-line changes of basis, before the quantizer
  std::map<Site, quant::RowClip> clips;   ///< learned clipping of a site's ranges
  std::map<Site, SiteClusters> clusters;  ///< of a site's channels, behind its map
  bool round_probabilities = false;       ///< those of attention, to k / 255
};

/// One family of models.  Stateless but for its config and what it keeps of tables computed from
/// it; all tensors come in from outside.  Every forward runs on one sample; operands must be
/// contiguous and newly allocated.  Only what needs a gradient records one.
/// Threads: any (kept tables are guarded), but each rank owns its Family, so that none waits.
class Family {
 public:
  virtual ~Family() = default;
  [[nodiscard]] virtual const ModelConfig& config() const = 0;
  [[nodiscard]] virtual const BlockSpec& block() const = 0;

  /// Tensors of block k by full checkpoint name, with the shapes they must have.
  [[nodiscard]] virtual std::vector<TensorSpec> block_tensors(BlockIndex k) const = 0;
  /// "model.layers.3." : what to strip from a block tensor's name.
  [[nodiscard]] virtual std::string block_prefix(BlockIndex k) const = 0;
  [[nodiscard]] virtual std::vector<TensorSpec> embedding_tensors() const = 0;
  [[nodiscard]] virtual std::vector<TensorSpec> head_tensors() const = 0;

  /// ids [1, T] int64 -> [1, T, C] float32.  tensors: embedding_tensors() by full name.
  [[nodiscard]] virtual at::Tensor embed(const NamedTensors& tensors,
                                         const at::Tensor& ids) const = 0;
  /// x [1, T, C] -> logits [1, T, V] float32: final norm and head.  tensors: head_tensors().
  [[nodiscard]] virtual at::Tensor logits(const NamedTensors& tensors,
                                          const at::Tensor& x) const = 0;
  /// One block.  x [1, T, C] float32 or bfloat16 (float64 in tests).  at_site: see SiteFunction.
  /// Norms, quantizers, RoPE, softmax and residuals in float32 (float64 for float64 x); matrix
  /// products in the dtype of the effective weights.  Causal always.  Returns [1, T, C] float32.
  [[nodiscard]] virtual at::Tensor forward(const EffectiveBlock& block, const at::Tensor& x,
                                           const SiteFunction& at_site) const = 0;
};

/// The family that config.model_type names.  Throws DataError with the names that exist.
[[nodiscard]] std::unique_ptr<Family> make_family(const ModelConfig& config);
/// The model types that make_family knows, for messages.
[[nodiscard]] std::vector<std::string> family_names();

}  // namespace lrq::models
