#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "src/models/quant_block.h"

namespace lrq::models {

/// The tensor of that name, or an undefined one.
[[nodiscard]] at::Tensor find(const NamedTensors& tensors, const std::string& name);

/// Names of the learnables of a block, in one place.
[[nodiscard]] std::string scale_name(const std::string& pair, Parametrization parametrization);
[[nodiscard]] std::string shift_name(const std::string& pair);
/// Whether a learnable is a smoothing scale, in either form.
[[nodiscard]] bool is_scale(const std::string& learnable);
[[nodiscard]] std::string upper_clip_name(const std::string& linear);
[[nodiscard]] std::string lower_clip_name(const std::string& linear);
[[nodiscard]] std::string row_rotation_name(const std::string& linear);
[[nodiscard]] std::string left_rotation_name(const std::string& linear);
[[nodiscard]] std::string right_rotation_name(const std::string& linear);
[[nodiscard]] std::string activation_upper_clip_name(Site site);
[[nodiscard]] std::string activation_lower_clip_name(Site site);
[[nodiscard]] std::string codes_name(const std::string& linear);
/// Where activations may be clipped.
inline constexpr std::array kClippedSites = {Site::kQkvIn, Site::kQuery, Site::kKey,
                                             Site::kOutIn, Site::kMlpIn, Site::kDownIn};
/// The q.k scale is the pair "qkt".
inline constexpr const char* kQueryKeyPair = "qkt";

/// Whether the q.k scale has one value for two channels that turn together.  Without rotary
/// embeddings every channel is on its own, and one value for each is exact: tied means free there.
[[nodiscard]] bool tied_query_key(const BlockSpec& block, const BlockMethod& method);
/// How many heads have a q.k scale of their own: the key/value heads, or one where the scale is in
/// norms that all heads share.
[[nodiscard]] std::int64_t query_key_heads(const BlockSpec& block, const ModelConfig& config);

}  // namespace lrq::models
