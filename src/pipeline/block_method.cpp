#include "src/pipeline/block_method.h"

namespace lrq::pipeline {
namespace {

// The enumerations of src/recipe and src/models say the same; neither folder may include the other.
models::Clip clip_of(recipe::ClipKind clip) {
  switch (clip) {
    case recipe::ClipKind::kLearned:
      return models::Clip::kLearned;
    case recipe::ClipKind::kNone:
      return models::Clip::kNone;
    case recipe::ClipKind::kRatio:
      return models::Clip::kRatio;
  }
  return models::Clip::kNone;
}

models::ScaleStart start_of(recipe::Start start) {
  switch (start) {
    case recipe::Start::kLae:
      return models::ScaleStart::kLae;
    case recipe::Start::kSmoothquant:
      return models::ScaleStart::kSmoothQuant;
    case recipe::Start::kOnes:
      return models::ScaleStart::kOnes;
  }
  return models::ScaleStart::kOnes;
}

models::ScaleMode scale_of(recipe::Scale scale) {
  switch (scale) {
    case recipe::Scale::kLearned:
      return models::ScaleMode::kLearned;
    case recipe::Scale::kFixed:
      return models::ScaleMode::kFixed;
    case recipe::Scale::kOff:
      return models::ScaleMode::kOff;
  }
  return models::ScaleMode::kOff;
}

models::ShiftMode shift_of(recipe::Shift shift) {
  switch (shift) {
    case recipe::Shift::kLearned:
      return models::ShiftMode::kLearned;
    case recipe::Shift::kStatistic:
      return models::ShiftMode::kStatistic;
    case recipe::Shift::kOff:
      return models::ShiftMode::kOff;
  }
  return models::ShiftMode::kOff;
}

models::QkMode qk_of(recipe::Qk qk) {
  switch (qk) {
    case recipe::Qk::kTied:
      return models::QkMode::kTied;
    case recipe::Qk::kFree:
      return models::QkMode::kFree;
    case recipe::Qk::kOff:
      return models::QkMode::kOff;
  }
  return models::QkMode::kOff;
}

models::QkvGranularity granularity_of(recipe::QkvGranularity granularity) {
  switch (granularity) {
    case recipe::QkvGranularity::kFamily:
      return models::QkvGranularity::kFamily;
    case recipe::QkvGranularity::kPerHead:
      return models::QkvGranularity::kPerHead;
    case recipe::QkvGranularity::kPerToken:
      return models::QkvGranularity::kPerToken;
  }
  return models::QkvGranularity::kFamily;
}

models::Rotation rotation_of(recipe::RotationForm form) {
  switch (form) {
    case recipe::RotationForm::kOff:
      return models::Rotation::kOff;
    case recipe::RotationForm::kRow:
      return models::Rotation::kRow;
    case recipe::RotationForm::kOuter:
      return models::Rotation::kOuter;
  }
  return models::Rotation::kOff;
}

models::MapKind map_kind_of(recipe::RotationKind kind) {
  switch (kind) {
    case recipe::RotationKind::kOff:
      return models::MapKind::kNone;
    case recipe::RotationKind::kGreedy:
      return models::MapKind::kGreedy;
    case recipe::RotationKind::kUniform:
      return models::MapKind::kUniform;
    case recipe::RotationKind::kHadamard:
      return models::MapKind::kHadamard;
  }
  return models::MapKind::kNone;
}

models::MapMethod map_of(const recipe::Recipe::Rotation& rotation) {
  return {.kind = map_kind_of(rotation.kind),
          .block_size = rotation.block_size,
          .steps = rotation.steps,
          .permutations = rotation.permutations,
          .random_permutations = rotation.random_permutations,
          .draws = rotation.draws,
          .householder = rotation.householder != recipe::Householder::kOff,
          .learn_householder = rotation.householder == recipe::Householder::kLearned,
          .truncate_householder = rotation.truncate,
          .by_row = rotation.greedy == recipe::Greedy::kRow,
          .reference_givens = rotation.givens == recipe::Givens::kReference,
          .separate_blocks = rotation.blocks == recipe::RotationBlocks::kSeparate,
          .calib_tokens = rotation.calib_tokens};
}

models::ClusterMethod clusters_of(const recipe::Recipe& recipe) {
  const recipe::ClusterRecipe& clusters = recipe.clusters;
  return {.on = clusters.kind != recipe::ClusterKind::kOff,
          .levels = clusters.levels == recipe::ClusterLevels::kAll ? quant::ClusterLevels::kAll
                                                                   : quant::ClusterLevels::kOneMore,
          .range_floor = clusters.range_floor,
          .dynamic = clusters.dynamic,
          .norm_bits = clusters.norm_out_bits,
          .probabilities = clusters.probabilities && recipe.activations.bits < 16};
}

}  // namespace

models::BlockMethod block_method(const recipe::Recipe& recipe) {
  models::BlockMethod method;
  const auto& weights = recipe.weights;
  method.weight = {.bits = weights.bits,
                   .symmetric = weights.symmetric,
                   .zero_point = weights.zero_point,
                   .include_zero = weights.include_zero,
                   .group_size = weights.per == recipe::Per::kGroup ? weights.group_size : 0};
  method.clip = clip_of(weights.clip);
  method.clip_ratio = weights.clip_ratio;

  const auto& activations = recipe.activations;
  const int kv_bits = activations.kv_bits == 0 ? activations.bits : activations.kv_bits;
  const auto grid = [&](int bits) {
    return quant::Grid{
        .bits = bits, .symmetric = activations.symmetric, .zero_point = !activations.symmetric};
  };
  method.activation = grid(activations.bits);
  method.query = grid(activations.quantize_q ? activations.bits : 16);
  method.key_value = grid(activations.quantize_kv ? kv_bits : 16);

  method.qkv_granularity = granularity_of(activations.qkv_granularity);
  method.activation_clip = clip_of(activations.clip);
  method.activation_clip_ratio = activations.clip_ratio;
  method.activation_clip_start = activations.clip_start;
  method.exact_tokens = activations.exact_tokens;

  const auto& smoothing = recipe.smoothing;
  method.start = start_of(smoothing.start);
  method.alpha = smoothing.alpha;
  method.scale = scale_of(smoothing.scale);
  method.shift = shift_of(smoothing.shift);
  method.qk = qk_of(smoothing.qk);
  method.parametrization = smoothing.parametrization == recipe::Parametrization::kLog
                               ? models::Parametrization::kLog
                               : models::Parametrization::kAbsolute;
  method.smooth_down = smoothing.down;
  method.map = map_of(recipe.rotation);
  method.clusters = clusters_of(recipe);
  method.hadamard_qk = recipe.rotation.qk == recipe::QkRotation::kHadamard;
  method.rotation = rotation_of(recipe.rotation_vectors.form);
  method.rotate_all = recipe.rotation_vectors.layers == recipe::RotationLayers::kAll;
  method.rotation_rank = recipe.rotation_vectors.rank;
  return method;
}

quant::NlcOptions nlc_options(const recipe::Recipe& recipe) {
  quant::NlcOptions options{.absolute = recipe.loss.nlc_abs};
  switch (recipe.loss.nlc_reduction) {
    case recipe::NlcReduction::kTokenMeanThenLog:
      options.reduction = quant::NlcReduction::kTokenMeanThenLog;
      break;
    case recipe::NlcReduction::kTokenLogThenMean:
      options.reduction = quant::NlcReduction::kTokenLogThenMean;
      break;
    case recipe::NlcReduction::kFlattened:
      options.reduction = quant::NlcReduction::kFlattened;
      break;
  }
  return options;
}

quant::TokenWeightOptions token_weight_options(const recipe::Recipe& recipe) {
  const auto& loss = recipe.loss;
  quant::TokenWeightOptions options{.by_energy = loss.mse_scale == recipe::MseScale::kTokenEnergy,
                                    .massive_above = loss.massive_above};
  switch (loss.massive_tokens) {
    case recipe::MassiveTokens::kKeep:
      options.massive = quant::MassiveTokens::kKeep;
      break;
    case recipe::MassiveTokens::kDownweight:
      options.massive = quant::MassiveTokens::kDownweight;
      break;
    case recipe::MassiveTokens::kDrop:
      options.massive = quant::MassiveTokens::kDrop;
      break;
  }
  return options;
}

at::ScalarType store_dtype(const recipe::Recipe& recipe, at::ScalarType compute) {
  switch (recipe.train.store) {
    case recipe::Store::kFloat32:
      return at::kFloat;
    case recipe::Store::kBfloat16:
      return at::kBFloat16;
    case recipe::Store::kCompute:
      break;
  }
  return compute;
}

bool learns(const recipe::Recipe& recipe) {
  return recipe.train.epochs > 0 && models::learns_anything(block_method(recipe));
}

}  // namespace lrq::pipeline
