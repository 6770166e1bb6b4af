// What every kind in the registry keeps, alone, in pairs and in longer chains.
#include <array>
#include <limits>
#include <set>

#include <gtest/gtest.h>

#include "src/transform/transform.h"
#include "tests/transform/random_parameter.h"

namespace lrq::transform {
namespace {

using namespace lrq::testing;

struct Precision {
  at::ScalarType dtype;
  double tolerance;
};
constexpr Precision kDoublePrecision = {at::kDouble, 1e-12};
constexpr Precision kSinglePrecision = {at::kFloat, 1e-5};
constexpr std::array kPrecisions = {kDoublePrecision, kSinglePrecision};

std::string text_of(const Chain& chain) {
  std::string text;
  for (const Transform& link : chain) text += std::string(link.kind->name) + " ";
  return text;
}

Chain as_dtype(const Chain& chain, at::ScalarType dtype) {
  Chain stored = chain;
  for (Transform& link : stored) {
    if (link.parameter.is_floating_point()) link.parameter = link.parameter.to(dtype);
  }
  return stored;
}

// Both sides of the identity that a chain promises, and the way back, in one dtype.
void expect_function_kept(const Chain& chain, std::int64_t channels, const Precision& precision) {
  SCOPED_TRACE(text_of(chain) + "on " + std::to_string(channels) + " channels, " +
               at::toString(precision.dtype));
  const Chain stored = as_dtype(chain, precision.dtype);
  for (const Transform& link : stored) {
    ASSERT_EQ(link.kind->problem(link.parameter, channels), "");
  }
  const at::Tensor x = random({2, 3, channels}, 71, precision.dtype);
  const at::Tensor weight = random({5, channels}, 72, precision.dtype);
  const at::Tensor turned = transform::apply(stored, x);
  const at::Tensor folded = fold(stored, weight);
  EXPECT_TRUE(turned.is_contiguous() && folded.is_contiguous());
  EXPECT_EQ(turned.sizes(), x.sizes());
  EXPECT_EQ(turned.scalar_type(), precision.dtype);
  at::Tensor y = turned.matmul(folded.t());
  if (const at::Tensor bias = bias_term(stored, weight); bias.defined()) y = y + bias;
  EXPECT_LT(relative_distance(y, x.matmul(weight.t())), precision.tolerance);
  EXPECT_LT(relative_distance(invert(stored, turned), x), precision.tolerance);
  EXPECT_LT(relative_distance(unfold(stored, folded), weight), precision.tolerance);
}

TEST(KindsTest, EveryKindIsFoundByItsNameAndHasAMaker) {
  std::set<std::string_view> names;
  for (const Kind* kind : kinds()) {
    EXPECT_TRUE(names.insert(kind->name).second) << kind->name << " occurs twice";
    EXPECT_EQ(find_kind(kind->name), kind);
    EXPECT_TRUE(parameter_makers().contains(kind->name))
        << "add a maker of \"" << kind->name << "\" to tests/transform/random_parameter.h";
  }
  EXPECT_EQ(names.size(), parameter_makers().size()) << "a maker is left over";
  EXPECT_EQ(find_kind("rotations"), nullptr);
}

TEST(KindsTest, EveryKindAloneKeepsTheLayersOutput) {
  for (const Kind* kind : kinds()) {
    std::uint64_t seed = 0;
    for (const std::int64_t channels : {2, 4, 6, 12, 40, 96}) {
      const Chain chain = {random_transform(*kind, channels, ++seed, at::kDouble)};
      for (const Precision& precision : kPrecisions) {
        expect_function_kept(chain, channels, precision);
      }
    }
  }
}

TEST(KindsTest, EveryOrderedPairKeepsTheLayersOutput) {
  std::uint64_t seed = 100;
  for (const Kind* first : kinds()) {
    for (const Kind* second : kinds()) {
      const Chain chain = {random_transform(*first, 24, ++seed, at::kDouble),
                           random_transform(*second, 24, ++seed, at::kDouble)};
      for (const Precision& precision : kPrecisions) expect_function_kept(chain, 24, precision);
    }
  }
}

TEST(KindsTest, LongRandomChainsKeepTheLayersOutput) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const at::Tensor picks = at::randint(static_cast<std::int64_t>(kinds().size()), {8},
                                         at::make_generator<at::CPUGeneratorImpl>(seed), at::kLong);
    const std::int64_t channels = seed % 2 == 0 ? 48 : 30;
    Chain chain;
    for (std::int64_t i = 0; i < picks.numel(); ++i) {
      const Kind& kind = *kinds()[static_cast<std::size_t>(picks[i].item<std::int64_t>())];
      chain.push_back(random_transform(kind, channels, 50 * seed + std::uint64_t(i), at::kDouble));
    }
    expect_function_kept(chain, channels, kDoublePrecision);
    // In float32 eight factors, scales among them, may lose a digit that one alone does not.
    expect_function_kept(chain, channels, {at::kFloat, 1e-4});
  }
}

TEST(KindsTest, AnEmptyChainIsTheIdentity) {
  const at::Tensor x = random({3, 4}, 1);
  EXPECT_TRUE(at::equal(transform::apply(Chain{}, x), x));
  EXPECT_TRUE(at::equal(invert(Chain{}, x), x));
  EXPECT_TRUE(at::equal(fold(Chain{}, x), x));
  EXPECT_TRUE(at::equal(unfold(Chain{}, x), x));
  EXPECT_FALSE(bias_term(Chain{}, x).defined());
}

TEST(KindsTest, KindsThatClaimItAreOrthogonal) {
  for (const Kind* kind : kinds()) {
    if (!kind->orthogonal) continue;
    EXPECT_EQ(kind->fold, kind->apply) << kind->name;
    EXPECT_EQ(kind->unfold, kind->invert) << kind->name;
    EXPECT_EQ(kind->bias_term, nullptr) << kind->name;
    for (const std::int64_t channels : {2, 12, 128}) {
      const Transform transform = random_transform(*kind, channels, 3, at::kFloat);
      const at::Tensor matrix = kind->apply(transform.parameter, at::eye(channels));
      EXPECT_LT(departure_from_orthogonal(matrix), 1e-5) << kind->name << ", " << channels;
    }
  }
}

// A number that depends on every entry of what a kind computes.
double value_of(const Transform& t, const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor turned = t.kind->apply(t.parameter, x);
  const at::Tensor folded = t.kind->fold(t.parameter, weight);
  at::Tensor sum = (turned * random(turned.sizes(), 81, at::kDouble)).sum() +
                   (folded * random(folded.sizes(), 82, at::kDouble)).sum();
  if (t.kind->bias_term != nullptr) {
    const at::Tensor bias = t.kind->bias_term(t.parameter, weight);
    sum = sum + (bias * random(bias.sizes(), 83, at::kDouble)).sum();
  }
  if (sum.requires_grad()) sum.backward();
  return sum.item<double>();
}

// Central differences of `value` in each entry of `at`, in place.
at::Tensor differences(const at::Tensor& at, const std::function<double()>& value) {
  constexpr double kStep = 1e-5;
  at::Tensor slopes = at::empty_like(at);
  double* entry = at.data_ptr<double>();
  for (std::int64_t i = 0; i < at.numel(); ++i) {
    const double middle = entry[i];
    entry[i] = middle + kStep;
    const double above = value();
    entry[i] = middle - kStep;
    slopes.view(-1)[i] = (above - value()) / (2 * kStep);
    entry[i] = middle;
  }
  return slopes;
}

TEST(KindsTest, GradientsAreThoseOfFiniteDifferences) {
  for (const Kind* kind : kinds()) {
    SCOPED_TRACE(std::string(kind->name));
    Transform plain = random_transform(*kind, 8, 5, at::kDouble);
    const at::Tensor x = random({3, 8}, 6, at::kDouble);
    const at::Tensor weight = random({2, 8}, 7, at::kDouble);
    const bool learnable = plain.parameter.is_floating_point();
    const Transform t = {kind, learnable ? leaf(plain.parameter) : plain.parameter};
    const at::Tensor x_leaf = leaf(x);
    const at::Tensor weight_leaf = leaf(weight);
    (void)value_of(t, x_leaf, weight_leaf);
    const auto value = [&] { return value_of(plain, x, weight); };
    expect_close(x_leaf.grad(), differences(x, value), 1e-7, 1e-8);
    expect_close(weight_leaf.grad(), differences(weight, value), 1e-7, 1e-8);
    if (!learnable) continue;
    expect_close(t.parameter.grad(), differences(plain.parameter, value), 1e-7, 1e-8);
  }
}

TEST(KindsTest, EveryKindRefusesWhatIsNoParameter) {
  for (const Kind* kind : kinds()) {
    SCOPED_TRACE(std::string(kind->name));
    const at::Tensor good = random_transform(*kind, 8, 4, at::kFloat).parameter;
    EXPECT_EQ(kind->problem(good, 8), "");
    EXPECT_NE(kind->problem(good, 9), "");  // as a scale or angles: shape; as blocks: no divisor
    EXPECT_NE(kind->problem({}, 8), "");
    EXPECT_NE(kind->problem(good.to(at::kHalf), 8), "");
    EXPECT_NE(kind->problem(good.to(at::kInt), 8), "");
    EXPECT_NE(kind->problem(at::cat({good, good}), 8), "");
    if (!good.is_floating_point()) continue;
    at::Tensor broken = good.clone();
    broken.view(-1)[1] = std::numeric_limits<double>::quiet_NaN();
    EXPECT_NE(kind->problem(broken, 8), "");
  }
}

}  // namespace
}  // namespace lrq::transform
