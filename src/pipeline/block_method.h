#pragma once

#include <ATen/core/Tensor.h>

#include "src/models/quant_block.h"
#include "src/quant/loss.h"
#include "src/recipe/recipe.h"

namespace lrq::pipeline {

/// What a recipe says about one block, in the terms of src/models.
[[nodiscard]] models::BlockMethod block_method(const recipe::Recipe& recipe);

/// The recipe's NLC options in the terms of src/quant.
[[nodiscard]] quant::NlcOptions nlc_options(const recipe::Recipe& recipe);

/// How the recipe weighs tokens in the squared error.
[[nodiscard]] quant::TokenWeightOptions token_weight_options(const recipe::Recipe& recipe);

/// The dtype of every tensor between two blocks (train.store; by default the compute dtype).
[[nodiscard]] at::ScalarType store_dtype(const recipe::Recipe& recipe, at::ScalarType compute);

/// True if the recipe learns anything at all (else its blocks take no steps).
[[nodiscard]] bool learns(const recipe::Recipe& recipe);

}  // namespace lrq::pipeline
