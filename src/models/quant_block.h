#pragma once

#include <map>
#include <string>

#include <ATen/core/Tensor.h>

#include "src/models/family.h"
#include "src/quant/fake_quant.h"
#include "src/quant/grid.h"

namespace lrq::models {

enum class Clip { kLearned, kNone, kRatio };
enum class ScaleStart { kLae, kSmoothQuant, kOnes };
enum class ScaleMode { kLearned, kFixed, kOff };
/// kLearned starts where the family says (BlockSpec::shift_starts_at_statistic), kZero at 0.
enum class ShiftMode { kLearned, kStatistic, kZero, kOff };
enum class QkMode { kTied, kFree, kOff };
enum class Parametrization { kLog, kAbsolute };
/// What shares one range of queries, keys or values: kFamily: what the published code has for it.
enum class QkvGranularity { kFamily, kPerHead, kPerToken };
enum class Rotation { kOff, kRow, kOuter };
enum class MapKind { kNone, kGreedy, kUniform, kHadamard };

/// Changes of basis in front of the quantizers of linear inputs (site_maps.h builds them):
///   rotation, then `permutations` times (zigzag permutation, rotation), then a reflection.
struct MapMethod {
  MapKind kind = MapKind::kNone;
  std::int64_t block_size = 0;  ///< 0: chosen by width; -1: all of it
  int steps = 16;
  int permutations = 1;
  int random_permutations = 3;  ///< of kUniform
  int draws = 1;  ///< chains drawn for a site; the one with the least error of its linears stays
  bool householder = false;
  bool learn_householder = false;
  bool truncate_householder = false;  ///< parity: entries kept above 0.01 in magnitude
  bool by_row = false;                ///< parity, of kGreedy
  bool reference_givens = false;      ///< parity, of kUniform
  bool separate_blocks = false;       ///< a rotation for each block of channels
  std::int64_t calib_tokens = 2048;   ///< rows that a map is built from, at most
  [[nodiscard]] bool none() const { return kind == MapKind::kNone && !householder; }
};

/// How one block is quantized: what a recipe says, as plain values.
struct BlockMethod {
  quant::Grid weight;
  Clip clip = Clip::kLearned;
  double clip_ratio = 1.0;  ///< with Clip::kRatio: both bounds times this, not learned
  quant::Grid activation;   ///< inputs of the linears
  quant::Grid query;        ///< at Site::kQuery
  quant::Grid key_value;    ///< at Site::kKey and Site::kValue
  QkvGranularity qkv_granularity = QkvGranularity::kFamily;
  ScaleStart start = ScaleStart::kLae;
  double alpha = 0.5;  ///< of the SmoothQuant start
  ScaleMode scale = ScaleMode::kLearned;
  ShiftMode shift = ShiftMode::kLearned;
  QkMode qk = QkMode::kTied;
  Parametrization parametrization = Parametrization::kLog;
  Rotation rotation = Rotation::kOff;  ///< rotation vectors on the de-quantized weight
  bool rotate_all = true;              ///< false: queries, attention output and up projection only
  int rotation_rank = 1;               ///< with kOuter
  Clip activation_clip = Clip::kNone;  ///< inputs of the linears, queries and keys
  double activation_clip_ratio = 1.0;
  double activation_clip_start = 0.982;
  std::int64_t exact_tokens = 0;  ///< first positions that stay unquantized at every site
  bool smooth_down = false;       ///< scale between the MLP's last two linears
  bool hadamard_qk = false;       ///< on queries and keys, per head
  MapMethod map;
  ClusterMethod clusters;
};

/// Which learning rate a learnable follows; kFixed is folded but never stepped.
enum class RateGroup { kFixed, kSmoothing, kClipping, kRotation, kMap };

/// Name of the tensors of a block state:
///   {qkv,fc1,out,down,qkt}_smooth_scale, *_smooth_shift,
///   <linear>.weight_quantizer.{upbound,lowbound}_factor,
///   <site>.act_quantizer.{upbound,lowbound}_factor [1],
///   <linear>.rotation_row [O, 1], or <linear>.rotation_left [O, k] and rotation_right [k, I],
///   map.<site>.<place>.<kind of transform> (site_maps.h),
///   <linear>.codes [O, I] uint8: codes that were chosen otherwise than by rounding (GPTQ),
///   cluster.<site>.{layout,low,high} (clusters.h).
/// With Parametrization::kLog a scale is stored as its logarithm, under *_smooth_log_scale.
/// kFixed: what the method does not learn, and everything if nothing is quantized.
[[nodiscard]] RateGroup rate_group(const std::string& learnable, const BlockMethod& method);
/// True if a block of this method has any learnable that rate_group steps.
[[nodiscard]] bool learns_anything(const BlockMethod& method);

/// Make the learnables of a block at their start values, float32 leaves on the weights' device.
/// weights: the block's tensors by name within the block ("self_attn.q_proj.weight"), float32.
/// statistics: "<site>.absmax" and "<site>.shift", [C] float32.
/// What rate_group calls kFixed requires no gradient.  Clip factors exist where they are learned
/// and weights are quantized, and so do rotation vectors (row: 1; outer: left 1, right 1/k, so that
/// their product is 1); a q.k scale, which starts at ones, exists only where it is learned.
/// Under grouped queries the value scale starts from the largest statistic (and column) over the
/// sharing heads, its shift from their mean.
/// Throws BugError if a statistic that the method needs is missing.
[[nodiscard]] NamedTensors initial_learnables(const Family& family, const NamedTensors& weights,
                                              const NamedTensors& statistics,
                                              const BlockMethod& method);

/// Whether a learnable is a number that the host reads, and so lies in host memory wherever its
/// block is: the size of a Hadamard matrix, the layout of clusters.
[[nodiscard]] bool read_by_host(const std::string& learnable);
/// The learnables (or statistics) of a block on its device, but for those that are read_by_host;
/// a tensor that is there already is not copied.
[[nodiscard]] NamedTensors on_device(const NamedTensors& learnables, at::Device device);

/// Lift small smoothing scales in place (transform::truncate_scale; in log form log s >= log 0.01),
/// and entries of reflections where the method says so, before every use.  Changes data only,
/// outside the graph.
void truncate_scales(NamedTensors& learnables, const BlockMethod& method);
/// Copies of them so lifted, without gradient.
[[nodiscard]] NamedTensors truncated_scales(const NamedTensors& learnables,
                                            const BlockMethod& method);

/// Fold the learnables into the block and fake-quantize its weights: the only folding routine,
/// for learning (under autograd), freezing, evaluation and export alike.  Order: norm -> qkv,
/// norm -> mlp, v -> o, up -> down, q/k; then the site's map on the input channels; then the
/// quantizer; then the rotation vectors, which multiply the de-quantized weight and no bias
/// (docs/methods.md, "Folding").
/// fixed: null, or what an earlier call has kept for later ones that differ from it only in values
/// that require gradient: weights in the basis that nothing learns.
/// Folds whatever scales and shifts `learnables` hold; a tensor stays undefined where nothing is
/// to do.  weights float32 (float64 in tests).  compute: dtype of the returned weights.
/// Throws BugError if clipping is learned and a factor is missing.
[[nodiscard]] EffectiveBlock fold(const Family& family, const NamedTensors& weights,
                                  const NamedTensors& learnables, const BlockMethod& method,
                                  at::ScalarType compute, NamedTensors* fixed = nullptr);

/// A linear on its way to the quantizer.
struct PreparedWeight {
  at::Tensor weight;                 ///< [O, I], in its site's basis
  quant::WeightTransform transform;  ///< what is still to be done in the quantizer's pass
  quant::ClusterLayout layout;       ///< of its columns; no runs: ranges as the grid says
};
/// What `fold` gives to the quantizer, by linear: what quant::quantize_weight needs to give the
/// integer codes of the same weights.  Rotation vectors come behind the quantizer: rotation_of.
[[nodiscard]] std::map<std::string, PreparedWeight> prepared_weights(const Family& family,
                                                                     const NamedTensors& weights,
                                                                     const NamedTensors& learnables,
                                                                     const BlockMethod& method);

/// The factor on a linear's de-quantized weight, [O, 1] or [O, I]; undefined if there is none.
[[nodiscard]] at::Tensor rotation_of(const NamedTensors& learnables, const std::string& linear);

/// The original block, ready to run.  Tensors are newly allocated, contiguous, in `compute`.
[[nodiscard]] EffectiveBlock plain_block(const Family& family, const NamedTensors& weights,
                                         at::ScalarType compute);

/// The site function of a quantized block, which changes to the block's bases and fake-quantizes
/// what the method says; of a plain block.
[[nodiscard]] SiteFunction quantizing_sites(const Family& family, const BlockMethod& method,
                                            const EffectiveBlock& block);
[[nodiscard]] SiteFunction plain_sites();

}  // namespace lrq::models
