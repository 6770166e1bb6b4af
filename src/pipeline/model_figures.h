#pragma once

#include <cstdint>

#include "src/models/quant_block.h"

namespace lrq::pipeline {

/// What a block is made of, in numbers of elements.  Legend: C hidden, Q query heads * D, V value
/// heads * D, I width in front of the MLP's last linear, F weights of all linears.
struct BlockFigures {
  std::int64_t parameters = 0;      ///< all that the checkpoint has of it
  std::int64_t weights = 0;         ///< F: 2 F operations for each token forward
  std::int64_t largest_weight = 0;  ///< of one linear
  std::int64_t linear_outputs = 0;  ///< per token, summed over the linears
  std::int64_t hidden = 0;          ///< C
  std::int64_t queries = 0;         ///< Q
  std::int64_t values = 0;          ///< V: also of the keys
  std::int64_t inner = 0;           ///< I
  bool shares_heads = false;        ///< keys and values are repeated for several query heads
};

/// A model, in numbers of elements.
struct ModelFigures {
  BlockFigures block;
  int blocks = 0;
  std::int64_t embedding = 0;
  std::int64_t head = 0;        ///< final norm and head; the norm alone where the head is tied
  std::int64_t vocabulary = 0;  ///< V of the logits
  [[nodiscard]] std::int64_t parameters() const {
    return block.parameters * blocks + embedding + head;
  }
};

/// Count what config.json alone says about a model: LLaMA-2-7B has 6 738 415 616 parameters, of
/// which 202 383 360 in each block.
[[nodiscard]] ModelFigures model_figures(const models::Family& family);

/// Parameters of one block that a method steps, and those that it holds beside them (start values
/// that nothing learns).  What has to be built from calibration data first (bases, clusters, codes)
/// is not counted, but for learned reflections.
struct LearnableFigures {
  std::int64_t stepped = 0;
  std::int64_t fixed = 0;
};
[[nodiscard]] LearnableFigures learnable_figures(const models::Family& family,
                                                 const models::BlockMethod& method);

}  // namespace lrq::pipeline
