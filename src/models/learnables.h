#pragma once

#include <string>

#include "src/models/quant_block.h"

namespace lrq::models {

/// Names of the learnables of a block, in one place.
[[nodiscard]] std::string scale_name(const std::string& pair, Parametrization parametrization);
[[nodiscard]] std::string shift_name(const std::string& pair);
[[nodiscard]] std::string upper_clip_name(const std::string& linear);
[[nodiscard]] std::string lower_clip_name(const std::string& linear);
[[nodiscard]] std::string row_rotation_name(const std::string& linear);
[[nodiscard]] std::string left_rotation_name(const std::string& linear);
[[nodiscard]] std::string right_rotation_name(const std::string& linear);
/// The q.k scale is the pair "qkt".
inline constexpr const char* kQueryKeyPair = "qkt";

}  // namespace lrq::models
