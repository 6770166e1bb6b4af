#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>

#include <ATen/core/Tensor.h>

#include "src/models/quant_block.h"
#include "src/transform/transform.h"

namespace lrq::models {

/// "map.qkv_in.01.permutation": the second transform of a site, as block files name it.
[[nodiscard]] std::string map_name(Site site, std::size_t place, std::string_view kind);
[[nodiscard]] bool is_map(const std::string& learnable);
[[nodiscard]] bool is_reflection(const std::string& learnable);

/// The chain of every site for which the learnables hold one, in the order of their places.
/// Throws BugError for a kind that does not exist or is not orthogonal.
[[nodiscard]] std::map<Site, transform::Chain> site_maps(const NamedTensors& learnables);

/// The Hadamard matrix on every head: the largest power of two that divides D.
[[nodiscard]] transform::Chain hadamard_of_heads(std::int64_t head_dim);

/// What keys the random draws of a block's maps, beside site, rotation and step.
struct MapKey {
  std::uint64_t seed = 0;
  std::int64_t block = 0;
};

/// The part of the calibration tokens that one rank sends through a block whose maps it builds
/// together with others.  By default all of them.
struct TokenShare {
  std::int64_t first = 0;  ///< place of the inputs' first token among all
  std::int64_t all = 0;    ///< tokens of all ranks; 0: those of the inputs
  /// In place over the ranks.
  std::function<void(const at::Tensor&)> sum = [](const at::Tensor&) {};
};

/// Build the maps of a block's linear inputs from what passes the sites, which the quantized block
/// makes itself of `inputs`: site after site in the order of the forward pass, each with the maps
/// before it already in use.
/// Source: DuQuant, RUQuant; docs/methods.md, "Rotations, permutations, reflections".
/// weights, learnables: as fold() takes them; learnables without maps.  inputs: [1, T, C] each; of
/// all tokens at most method.map.calib_tokens are looked at, evenly spaced.
/// Returns the maps by map_name, float32 (permutations int64), on the weights' device (sizes of
/// Hadamard matrices in host memory: read_by_host).
/// Throws UsageError if the block size does not divide a width.
[[nodiscard]] NamedTensors build_site_maps(const Family& family, const NamedTensors& weights,
                                           const NamedTensors& learnables,
                                           const BlockMethod& method,
                                           std::span<const at::Tensor> inputs,
                                           at::ScalarType compute, const MapKey& key,
                                           const TokenShare& share = {});

/// Throws UsageError if rotation.block_size does not divide a width of the family's blocks.
void check_map_sizes(const Family& family, const MapMethod& method);

}  // namespace lrq::models
