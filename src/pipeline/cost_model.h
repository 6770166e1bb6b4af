#pragma once

#include <cstdint>
#include <string>

#include "src/pipeline/machine.h"
#include "src/pipeline/model_figures.h"
#include "src/recipe/recipe.h"

namespace lrq::pipeline {

inline constexpr double kFloatBytes = 4.0;  ///< of a float32 element

/// What is computed: one block of a model by a recipe on samples of T tokens.
struct BlockWork {
  BlockFigures block;
  LearnableFigures learnables;
  recipe::Recipe recipe;
  std::int64_t tokens = 0;  ///< T
  int compute_bytes = 4;    ///< of an element of a matrix product: 4 float32, 2 bfloat16
  int store_bytes = 4;      ///< of an element of a tensor between two blocks
  int file_bytes = 2;       ///< of a weight in the checkpoint
  /// Bytes of one sample between two blocks, T C s.
  [[nodiscard]] double boundary_bytes() const {
    return static_cast<double>(tokens * block.hidden * store_bytes);
  }
};

/// Seconds of computing, by kind.
struct Seconds {
  double products = 0.0;
  double attention = 0.0;
  double quantizer = 0.0;
  double elementwise = 0.0;
  double starting = 0.0;  ///< of the parts of a step, whatever their size
  [[nodiscard]] double total() const {
    return products + attention + quantizer + elementwise + starting;
  }
};

/// Operations of the linears' products for one sample: 2 T F forward; three times that to learn
/// (forward, gradient of the input, gradient of the weight).
[[nodiscard]] double product_operations(const BlockWork& work);
/// Operations of attention for one sample forward, 4 T^2 Q: masked places are counted, as the rate
/// is measured so.
[[nodiscard]] double attention_operations(const BlockWork& work);

/// One sample through an original block, with the statistics of its linears' inputs:
///   2 T F / products + 4 T^2 Q / attention + 4 T (20 C + 9 Q + 5 V + 5 I) / elementwise
///   + 8 T (2 C + Q + I) / elementwise                                       its statistics
/// where each number counts how often a float32 of that width is read or written: a norm takes 7,
/// a residual 3, rotary embeddings 3, merging heads 2, sharing heads 4 (only with grouped queries),
/// SiLU and its product 5.  In bfloat16 every site, query, key, value and output of a linear is
/// converted, 6 bytes an element (sites not where the quantizer does it: Machine::fused_cast).
[[nodiscard]] Seconds plain_forward(const BlockWork& work, const Machine& machine);

/// One sample through a folded block, measured against its target: as plain_forward without the
/// statistics, with 13 C for the two losses, and 8 bytes for each element that is quantized.
[[nodiscard]] Seconds frozen_forward(const BlockWork& work, const Machine& machine);

/// Fold a block: 8 F bytes through the quantizer, and in bfloat16 6 F more to convert, or 6 F in
/// all where it leaves the quantizer converted (Machine::fused_cast).
[[nodiscard]] Seconds fold_weights(const BlockWork& work, const Machine& machine);

/// One step of one block on `samples` samples of a micro-batch: fold once, and for each sample
///   6 T F / products + 14 T^2 Q / attention
///   + (8 F + 20 T quantized) / quantizer            back through weights, both ways activations
///   + 4 T (102 C + 20 Q + 12 V + 16 I) / elementwise
/// and then 4 * 60 learnables / elementwise for AdamW.  Attention backward is taken as 2.5 times
/// its forward.  All of it times the machine's step factor.  emit = post folds and runs forward
/// once more; a loss against the original block's output (mse_r, nlc_r) adds a plain forward.
[[nodiscard]] Seconds learning_step(const BlockWork& work, const Machine& machine,
                                    std::int64_t samples);

/// What a recipe does that the formulas leave out: "GPTQ rounding, ..." or "".
[[nodiscard]] std::string not_counted(const recipe::Recipe& recipe);

}  // namespace lrq::pipeline
