#pragma once

#include <memory>
#include <string>

#include "src/models/quant_block.h"
#include "tests/models/golden_file.h"

namespace lrq::models {

/// One block of a golden file in the product's terms: model, method, rates and what is learned.
struct GoldenCase {
  std::unique_ptr<Family> family;
  BlockMethod method;
  NamedTensors weights;
  NamedTensors statistics;
  NamedTensors init;  ///< the learnables before step 1, as the file holds them
  double smoothing_rate = 0.0;
  double clipping_rate = 0.0;
  double mse_weight = 0.0;  ///< how often the loss counts the squared error
  double nlc_weight = 0.0;  ///< how often the loss counts -log |mean cosine|
};

/// Throws DataError where the file lacks a setting or holds one that is not understood.
[[nodiscard]] GoldenCase read_golden_case(const GoldenFile& file);

/// Whether the published code stepped this learnable: one that kept its start value was not.
[[nodiscard]] bool was_learned(const GoldenFile& file, const std::string& learnable);

}  // namespace lrq::models
