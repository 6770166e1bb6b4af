#include "src/recipe/field_table.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>

#include "src/base/text.h"

namespace lrq::recipe {
namespace {

// The words of each enumeration, in its order.
constexpr auto words(Per) { return std::array{"channel", "group"}; }
constexpr auto words(QkvGranularity) { return std::array{"family", "per_head", "per_token"}; }
constexpr auto words(Start) { return std::array{"lae", "smoothquant", "ones"}; }
constexpr auto words(Scale) { return std::array{"learned", "fixed", "off"}; }
constexpr auto words(Shift) { return std::array{"learned", "statistic", "off"}; }
constexpr auto words(Qk) { return std::array{"tied", "free", "off"}; }
constexpr auto words(Parametrization) { return std::array{"log", "absolute"}; }
constexpr auto words(RotationForm) { return std::array{"off", "row", "outer"}; }
constexpr auto words(RotationKind) { return std::array{"off", "greedy", "uniform", "hadamard"}; }
constexpr auto words(Householder) { return std::array{"off", "fixed", "learned"}; }
constexpr auto words(QkRotation) { return std::array{"off", "hadamard"}; }
constexpr auto words(Greedy) { return std::array{"column", "row"}; }
constexpr auto words(Givens) { return std::array{"target", "reference"}; }
constexpr auto words(RotationBlocks) { return std::array{"shared", "separate"}; }
constexpr auto words(RotationCalib) { return std::array{"mean", "tokens"}; }
constexpr auto words(ClusterKind) { return std::array{"off", "kmeans", "equal"}; }
constexpr auto words(ClusterRangeRule) { return std::array{"minmax", "ema"}; }
constexpr auto words(ClusterLevels) { return std::array{"all", "one_more"}; }
constexpr auto words(RopeOrder) { return std::array{"pairs", "post", "off"}; }
constexpr auto words(Rounding) { return std::array{"nearest", "gptq"}; }
constexpr auto words(GptqInputs) { return std::array{"quantized", "plain"}; }
constexpr auto words(RotationLayers) { return std::array{"all", "q,o,up"}; }
constexpr auto words(Balance) { return std::array{"sum", "ema"}; }
constexpr auto words(MseScale) { return std::array{"plain", "token_energy"}; }
constexpr auto words(MassiveTokens) { return std::array{"keep", "downweight", "drop"}; }
constexpr auto words(NlcReduction) {
  return std::array{"token_mean_then_log", "token_log_then_mean", "flattened"};
}
constexpr auto words(Schedule) { return std::array{"waves", "independent"}; }
constexpr auto words(Emit) { return std::array{"pre", "post"}; }
constexpr auto words(LrSchedule) { return std::array{"constant", "linear"}; }
constexpr auto words(Nonfinite) { return std::array{"restore", "stop"}; }
constexpr auto words(TtaInit) { return std::array{"start", "calibrated"}; }
constexpr auto words(TtaScope) { return std::array{"set", "sequence"}; }
constexpr auto words(TtaTarget) { return std::array{"homologous", "fp_chain"}; }
constexpr auto words(TtaInput) { return std::array{"blocks", "embedding"}; }
constexpr auto words(Store) { return std::array{"compute", "float32", "bfloat16"}; }

template <typename Member>
std::string expected_kind() {
  if constexpr (std::is_same_v<Member, bool>) {
    return "true or false";
  } else if constexpr (std::is_same_v<Member, int>) {
    return concat("an integer from ", std::numeric_limits<int>::min(), " to ",
                  std::numeric_limits<int>::max());
  } else if constexpr (std::is_same_v<Member, double>) {
    return "a number";
  } else if constexpr (std::is_same_v<Member, std::string>) {
    return "a text";
  } else {
    std::vector<std::string> names;
    for (const char* word : words(Member{})) names.push_back(concat('"', word, '"'));
    return "one of " + join(names, ", ");
  }
}

template <typename Member>
Value to_value(Member member) {
  if constexpr (std::is_enum_v<Member>) {
    return std::string(words(member).at(static_cast<std::size_t>(member)));
  } else if constexpr (std::is_same_v<Member, int>) {
    return std::int64_t{member};
  } else {
    return member;
  }
}

bool from_value(const Value& value, bool& member) {
  const auto* found = std::get_if<bool>(&value);
  if (found != nullptr) member = *found;
  return found != nullptr;
}

bool from_value(const Value& value, int& member) {
  const auto* found = std::get_if<std::int64_t>(&value);
  if (found == nullptr || !std::in_range<int>(*found)) return false;
  member = static_cast<int>(*found);
  return true;
}

bool from_value(const Value& value, double& member) {
  if (const auto* whole = std::get_if<std::int64_t>(&value)) {
    member = static_cast<double>(*whole);
    return true;
  }
  const auto* found = std::get_if<double>(&value);
  if (found != nullptr) member = *found;
  return found != nullptr;
}

bool from_value(const Value& value, std::string& member) {
  if (const auto* digits = std::get_if<std::int64_t>(&value)) {  // --set clusters.sites=135
    member = std::to_string(*digits);
    return true;
  }
  const auto* found = std::get_if<std::string>(&value);
  if (found != nullptr) member = *found;
  return found != nullptr;
}

template <typename Enum>
requires std::is_enum_v<Enum>
bool from_value(const Value& value, Enum& member) {
  const auto* found = std::get_if<std::string>(&value);
  if (found == nullptr) return false;
  constexpr auto kWords = words(Enum{});
  for (std::size_t i = 0; i < kWords.size(); ++i) {
    if (*found == kWords[i]) {
      member = static_cast<Enum>(i);
      return true;
    }
  }
  return false;
}

template <typename Table, typename Member>
Field field(const std::string& name, Table Recipe::*table, Member Table::*member) {
  return {.name = name,
          .expects = expected_kind<Member>(),
          .get = [=](const Recipe& r) { return to_value(r.*table.*member); },
          .set = [=](Recipe& r, const Value& v) { return from_value(v, r.*table.*member); }};
}

/// One field for what and how much: a word, or a ratio that stands for "ratio".
template <typename Table>
bool set_clip(Table& table, const Value& value) {
  double ratio = 0.0;
  if (from_value(value, ratio)) {
    table.clip = ClipKind::kRatio;
    table.clip_ratio = ratio;
    return true;
  }
  const auto* word = std::get_if<std::string>(&value);
  if (word == nullptr || (*word != "learned" && *word != "none")) return false;
  table.clip = *word == "learned" ? ClipKind::kLearned : ClipKind::kNone;
  table.clip_ratio = Table{}.clip_ratio;
  return true;
}

template <typename Table>
Field clip_field(const std::string& name, Table Recipe::*table) {
  return {.name = name,
          .expects = R"("learned", "none" or a ratio such as 0.9)",
          .get = [=](const Recipe& r) -> Value {
            const Table& t = r.*table;
            if (t.clip == ClipKind::kRatio) return t.clip_ratio;
            return std::string(t.clip == ClipKind::kLearned ? "learned" : "none");
          },
          .set = [=](Recipe& r, const Value& v) { return set_clip(r.*table, v); }};
}

std::vector<Field> make_table() {
  using R = Recipe;
  using W = R::Weights;
  using A = R::Activations;
  using S = R::Smoothing;
  using B = R::Rotation;
  using V = R::RotationVectors;
  using L = R::Loss;
  using T = R::Train;
  using G = R::Gptq;
  using D = R::Tta;
  using C = ClusterRecipe;
  return {
      field("weights.bits", &R::weights, &W::bits),
      field("weights.per", &R::weights, &W::per),
      field("weights.group_size", &R::weights, &W::group_size),
      field("weights.symmetric", &R::weights, &W::symmetric),
      field("weights.zero_point", &R::weights, &W::zero_point),
      clip_field("weights.clip", &R::weights),
      field("weights.include_zero", &R::weights, &W::include_zero),
      field("weights.rounding", &R::weights, &W::rounding),
      field("activations.bits", &R::activations, &A::bits),
      field("activations.symmetric", &R::activations, &A::symmetric),
      field("activations.kv_bits", &R::activations, &A::kv_bits),
      field("activations.quantize_q", &R::activations, &A::quantize_q),
      field("activations.quantize_kv", &R::activations, &A::quantize_kv),
      field("activations.qkv_granularity", &R::activations, &A::qkv_granularity),
      clip_field("activations.clip", &R::activations),
      field("activations.clip_start", &R::activations, &A::clip_start),
      field("activations.exact_tokens", &R::activations, &A::exact_tokens),
      field("smoothing.start", &R::smoothing, &S::start),
      field("smoothing.alpha", &R::smoothing, &S::alpha),
      field("smoothing.scale", &R::smoothing, &S::scale),
      field("smoothing.shift", &R::smoothing, &S::shift),
      field("smoothing.qk", &R::smoothing, &S::qk),
      field("smoothing.down", &R::smoothing, &S::down),
      field("smoothing.parametrization", &R::smoothing, &S::parametrization),
      field("rotation.kind", &R::rotation, &B::kind),
      field("rotation.block_size", &R::rotation, &B::block_size),
      field("rotation.steps", &R::rotation, &B::steps),
      field("rotation.permutations", &R::rotation, &B::permutations),
      field("rotation.random_permutations", &R::rotation, &B::random_permutations),
      field("rotation.draws", &R::rotation, &B::draws),
      field("rotation.householder", &R::rotation, &B::householder),
      field("rotation.lr", &R::rotation, &B::lr),
      field("rotation.truncate", &R::rotation, &B::truncate),
      field("rotation.qk", &R::rotation, &B::qk),
      field("rotation.greedy", &R::rotation, &B::greedy),
      field("rotation.givens", &R::rotation, &B::givens),
      field("rotation.blocks", &R::rotation, &B::blocks),
      field("rotation.calib", &R::rotation, &B::calib),
      field("rotation.calib_tokens", &R::rotation, &B::calib_tokens),
      field("clusters.kind", &R::clusters, &C::kind),
      field("clusters.norms", &R::clusters, &C::norms),
      field("clusters.heads", &R::clusters, &C::heads),
      field("clusters.mlp", &R::clusters, &C::mlp),
      field("clusters.sites", &R::clusters, &C::sites),
      field("clusters.min_cluster", &R::clusters, &C::min_cluster),
      field("clusters.range", &R::clusters, &C::range),
      field("clusters.range_floor", &R::clusters, &C::range_floor),
      field("clusters.levels", &R::clusters, &C::levels),
      field("clusters.dynamic", &R::clusters, &C::dynamic),
      field("clusters.norm_out_bits", &R::clusters, &C::norm_out_bits),
      field("clusters.probabilities", &R::clusters, &C::probabilities),
      field("clusters.rope", &R::clusters, &C::rope),
      field("clusters.standardise", &R::clusters, &C::standardise),
      field("rotation_vectors.form", &R::rotation_vectors, &V::form),
      field("rotation_vectors.layers", &R::rotation_vectors, &V::layers),
      field("rotation_vectors.rank", &R::rotation_vectors, &V::rank),
      field("rotation_vectors.lr", &R::rotation_vectors, &V::lr),
      field("loss.mse_p", &R::loss, &L::mse_p),
      field("loss.nlc_p", &R::loss, &L::nlc_p),
      field("loss.mse_r", &R::loss, &L::mse_r),
      field("loss.nlc_r", &R::loss, &L::nlc_r),
      field("loss.balance", &R::loss, &L::balance),
      field("loss.mse_scale", &R::loss, &L::mse_scale),
      field("loss.massive_tokens", &R::loss, &L::massive_tokens),
      field("loss.massive_above", &R::loss, &L::massive_above),
      field("loss.nlc_reduction", &R::loss, &L::nlc_reduction),
      field("loss.nlc_abs", &R::loss, &L::nlc_abs),
      field("train.epochs", &R::train, &T::epochs),
      field("train.let_lr", &R::train, &T::let_lr),
      field("train.lwc_lr", &R::train, &T::lwc_lr),
      field("train.wd", &R::train, &T::wd),
      field("train.batch_size", &R::train, &T::batch_size),
      field("train.schedule", &R::train, &T::schedule),
      field("train.wave", &R::train, &T::wave),
      field("train.emit", &R::train, &T::emit),
      field("train.lr_schedule", &R::train, &T::lr_schedule),
      field("train.nonfinite", &R::train, &T::nonfinite),
      field("train.keep_best", &R::train, &T::keep_best),
      field("train.store", &R::train, &T::store),
      field("gptq.damping", &R::gptq, &G::damping),
      field("gptq.act_order", &R::gptq, &G::act_order),
      field("gptq.inputs", &R::gptq, &G::inputs),
      field("gptq.sequential", &R::gptq, &G::sequential),
      field("tta.init", &R::tta, &D::init),
      field("tta.scope", &R::tta, &D::scope),
      field("tta.target", &R::tta, &D::target),
      field("tta.skip_calib_set", &R::tta, &D::skip_calib_set),
      field("tta.input", &R::tta, &D::input),
      field("tta.act_quant", &R::tta, &D::act_quant),
      field("tta.epochs", &R::tta, &D::epochs),
      field("tta.let_lr", &R::tta, &D::let_lr),
      field("tta.lwc_lr", &R::tta, &D::lwc_lr),
  };
}

std::string double_text(double value) {
  if (!std::isfinite(value)) {  // spelled as TOML does; validate() refuses them with their field
    return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  }
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  std::string text(buffer.data(), end.ptr);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

}  // namespace

std::string value_text(const Value& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return std::to_string(*whole);
  if (const auto* number = std::get_if<double>(&value)) return double_text(*number);
  return concat('"', std::get<std::string>(value), '"');
}

std::string value_kind(const Value& value) {
  static constexpr std::array kKinds = {"a boolean", "an integer", "a number", "a string"};
  return kKinds.at(value.index());
}

const std::vector<Field>& field_table() {
  static const std::vector<Field> kTable = make_table();
  return kTable;
}

}  // namespace lrq::recipe
