// The fused pass against the plain formula, the plain formula against finite differences.
#include <cstring>
#include <string>

#include <c10/core/GradMode.h>

#include "src/base/text.h"
#include "src/quant/fake_quant.h"
#include "src/quant/fake_quant_cpu.h"
#include "tests/quant/tensors.h"

namespace lrq::quant {
namespace {

using namespace lrq::testing;

struct Case {
  std::string name;
  std::int64_t out;
  std::int64_t in;
  Grid grid;
  bool scaled = true;
};

std::vector<Case> cases() {
  return {
      {"whole rows", 7, 64, {.bits = 4}},
      {"rows with a tail", 5, 77, {.bits = 4}},
      {"rows shorter than a block", 9, 5, {.bits = 3}},
      {"one value a row", 3, 1, {.bits = 4}},
      {"groups", 6, 96, {.bits = 2, .group_size = 32}},
      {"groups with tails", 6, 60, {.bits = 3, .group_size = 20}},
      {"symmetric", 4, 50, {.bits = 4, .symmetric = true}},
      {"symmetric, exportable", 4, 50, {.bits = 4, .symmetric = true, .zero_point = false}},
      {"shorter last group", 5, 70, {.bits = 4, .symmetric = true, .group_size = 32}},
      {"group longer than the row", 3, 20, {.bits = 4, .symmetric = true, .group_size = 32}},
      {"include_zero", 40, 3, {.bits = 4, .include_zero = true}},
      {"symmetric include_zero", 40, 3, {.bits = 4, .symmetric = true, .include_zero = true}},
      {"15 bits", 3, 33, {.bits = 15}},
      {"not scaled", 4, 48, {.bits = 4}, false},
  };
}

struct Parts {
  at::Tensor weight;
  WeightTransform transform;
};

Parts parts_of(const Case& one, at::ScalarType dtype = at::kFloat) {
  const std::int64_t ranges = one.out * one.grid.groups(one.in);
  const at::Tensor raw_upper = random({ranges, 1}, 5, dtype);
  Parts parts{.weight = leaf(random({one.out, one.in}, 1, dtype)),
              .transform = {.clip_upper = leaf((raw_upper + 0.5).sigmoid()),
                            .clip_lower = leaf((random({ranges, 1}, 6, dtype) + 0.5).sigmoid())}};
  if (one.scaled) {
    parts.transform.column_scale = leaf(random({one.in}, 3, dtype).exp());
    parts.transform.row_scale = leaf(random({one.out}, 4, dtype).exp());
  }
  return parts;
}

std::vector<at::Tensor> leaves_of(const Parts& parts) {
  std::vector<at::Tensor> result = {parts.weight, parts.transform.clip_upper,
                                    parts.transform.clip_lower};
  if (parts.transform.column_scale.defined()) {
    result.push_back(parts.transform.column_scale);
    result.push_back(parts.transform.row_scale);
  }
  return result;
}

TEST(FusedFakeQuantTest, EqualsThePlainFormulaBitForBit) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    const Parts parts = parts_of(one);
    const at::Tensor expected =
        fake_quant_weight_reference(parts.weight, parts.transform, one.grid);
    EXPECT_TRUE(at::equal(fake_quant_weight(parts.weight, parts.transform, one.grid), expected));
    const QuantizedWeight stored = quantize_weight(parts.weight, parts.transform, one.grid);
    const std::int64_t length = one.grid.group_size > 0 ? one.grid.group_size : one.in;
    const auto spread = [&](const at::Tensor& x) {
      return x.repeat_interleave(length, 1).narrow(1, 0, one.in);
    };
    EXPECT_TRUE(at::equal((stored.codes - spread(stored.zero)) * spread(stored.step), expected));
  }
}

TEST(FusedFakeQuantTest, GradientsEqualThoseOfThePlainFormula) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    const Parts fused = parts_of(one);
    const Parts plain = parts_of(one);
    const at::Tensor factor = random({one.out, one.in}, 9);
    (fake_quant_weight(fused.weight, fused.transform, one.grid) * factor).sum().backward();
    (fake_quant_weight_reference(plain.weight, plain.transform, one.grid) * factor)
        .sum()
        .backward();
    const auto found = leaves_of(fused);
    const auto expected = leaves_of(plain);
    for (std::size_t i = 0; i < found.size(); ++i) {
      SCOPED_TRACE(concat("leaf ", i));
      expect_close(found[i].grad(), expected[i].grad(), 1e-4, 1e-5);
    }
  }
}

TEST(FusedFakeQuantTest, RowsEqualThePlainFormulaOnAStridedView) {
  for (const Grid grid : {Grid{.bits = 4}, Grid{.bits = 8, .symmetric = true}}) {
    const at::Tensor x = leaf(random({2, 19, 3, 37}, 2));
    const at::Tensor y = leaf(x);
    const at::Tensor factor = random({2, 3, 19, 37}, 8);
    const at::Tensor found = fake_quant_rows(x.transpose(1, 2), grid);
    const at::Tensor expected = fake_quant_rows_reference(y.transpose(1, 2), grid);
    EXPECT_TRUE(found.is_contiguous());
    EXPECT_TRUE(at::equal(found, expected));
    (found * factor).sum().backward();
    (expected * factor).sum().backward();
    expect_close(x.grad(), y.grad(), 1e-4, 1e-5);
  }
}

TEST(FusedFakeQuantTest, OnlyWhatIsLearnedGetsAGradient) {
  const at::Tensor weight = random({4, 20}, 1);
  const at::Tensor column = leaf(at::ones({20}));
  const at::Tensor upper = at::ones({4, 1});
  fake_quant_weight(weight, {.column_scale = column, .clip_upper = upper}, {.bits = 4})
      .sum()
      .backward();
  EXPECT_TRUE(column.grad().defined());
  EXPECT_FALSE(weight.grad().defined());
  EXPECT_FALSE(upper.grad().defined());
}

// Everything that one instruction set computes, as one list of tensors.
std::vector<at::Tensor> run_kernels(const Case& one, cpu::InstructionSet set) {
  const Parts parts = parts_of(one);
  const auto read = [](const at::Tensor& x) {
    return x.defined() ? x.const_data_ptr<float>() : nullptr;
  };
  const cpu::Operands in{.data = read(parts.weight),
                         .rows = one.out,
                         .columns = one.in,
                         .column_scale = read(parts.transform.column_scale),
                         .row_scale = read(parts.transform.row_scale),
                         .clip_upper = read(parts.transform.clip_upper),
                         .clip_lower = read(parts.transform.clip_lower)};
  const std::int64_t ranges = one.out * one.grid.groups(one.in);
  const at::Tensor dy = random({one.out, one.in}, 9);
  std::vector<at::Tensor> out = {at::empty({one.out, one.in}), at::empty({ranges, 2}),
                                 at::empty({one.out, one.in}), at::empty({one.in}),
                                 at::empty({one.out}),         at::empty({ranges}),
                                 at::empty({ranges})};
  const auto write = [&](std::size_t i) { return out[i].data_ptr<float>(); };
  cpu::fake_quant_forward(in, one.grid, write(0), write(1), set);
  cpu::fake_quant_backward(in, one.grid, read(out[1]), read(dy),
                           {.data = write(2),
                            .column_scale = write(3),
                            .row_scale = write(4),
                            .clip_upper = write(5),
                            .clip_lower = write(6)},
                           set);
  return out;
}

TEST(FusedFakeQuantTest, EveryInstructionSetGivesTheSameBits) {
  EXPECT_TRUE(cpu::supported(cpu::best_instruction_set()));
  for (const cpu::InstructionSet set : {cpu::InstructionSet::kAvx2, cpu::InstructionSet::kAvx512}) {
    if (!cpu::supported(set)) continue;
    for (const Case& one : cases()) {
      SCOPED_TRACE(one.name);
      const auto expected = run_kernels(one, cpu::InstructionSet::kBase);
      const auto found = run_kernels(one, set);
      for (std::size_t i = 0; i < found.size(); ++i) {
        EXPECT_EQ(0, std::memcmp(found[i].const_data_ptr(), expected[i].const_data_ptr(),
                                 found[i].nbytes()))
            << "output " << i;
      }
    }
  }
}

// The quantizer with its rounding frozen: y = x + r * S inside, (code - zero) * S outside, where r,
// code, zero and "inside" stay as they were at the starting point.
struct Frozen {
  Grid grid;
  at::Tensor residual;
  at::Tensor inside;
  at::Tensor level;  // code - zero

  at::Tensor step(const Parts& parts, at::Tensor& x) const {
    const WeightTransform& t = parts.transform;
    const std::int64_t length = grid.group_size > 0 ? grid.group_size : parts.weight.size(1);
    x = (parts.weight * t.column_scale * t.row_scale.unsqueeze(1)).reshape({-1, length});
    const at::Tensor high = x.amax(1, true) * t.clip_upper;
    const at::Tensor low = x.amin(1, true) * t.clip_lower;
    if (grid.symmetric) {
      return at::maximum(high.abs(), low.abs()) / ((1 << (grid.bits - 1)) - 1);
    }
    return (high - low) / ((1 << grid.bits) - 1);
  }
  void freeze(const Parts& parts) {
    at::Tensor x;
    const at::Tensor s = step(parts, x);
    const QuantizedWeight q = quantize_weight(parts.weight, parts.transform, grid);
    level = q.codes.reshape(x.sizes()) - q.zero.reshape(s.sizes());
    residual = (x / s).round() - x / s;
    inside = (x / s).round().eq(level);
  }
  double loss(const Parts& parts, const at::Tensor& factor) const {
    at::Tensor x;
    const at::Tensor s = step(parts, x);
    const at::Tensor y = at::where(inside, x + residual * s, level * s);
    return (y.reshape(factor.sizes()) * factor).sum().item<double>();
  }
};

TEST(FakeQuantReferenceTest, GradientsEqualFiniteDifferencesWithRoundingHeldFixed) {
  const std::vector<Case> differentiable = {
      {"asymmetric", 3, 8, {.bits = 3}},
      {"groups", 2, 12, {.bits = 2, .group_size = 4}},
      {"symmetric", 3, 8, {.bits = 3, .symmetric = true}},
      {"symmetric, exportable", 3, 8, {.bits = 3, .symmetric = true, .zero_point = false}}};
  for (const Case& one : differentiable) {
    SCOPED_TRACE(one.name);
    const Parts parts = parts_of(one, at::kDouble);
    const at::Tensor factor = random({one.out, one.in}, 9, at::kDouble);
    (fake_quant_weight(parts.weight, parts.transform, one.grid) * factor).sum().backward();
    const c10::NoGradGuard no_grad;
    Frozen frozen{.grid = one.grid, .residual = {}, .inside = {}, .level = {}};
    frozen.freeze(parts);
    EXPECT_TRUE(frozen.inside.logical_not().any().item<bool>()) << "no code was clipped";
    for (const at::Tensor& leaf_tensor : leaves_of(parts)) {
      double* values = leaf_tensor.data_ptr<double>();
      at::Tensor expected = at::empty_like(leaf_tensor);
      for (std::int64_t i = 0; i < leaf_tensor.numel(); ++i) {
        const double kept = values[i];
        const double width = 1e-6;
        values[i] = kept + width;
        const double above = frozen.loss(parts, factor);
        values[i] = kept - width;
        const double below = frozen.loss(parts, factor);
        values[i] = kept;
        expected.data_ptr<double>()[i] = (above - below) / (2 * width);
      }
      expect_close(leaf_tensor.grad(), expected, 1e-6, 1e-7);
    }
  }
}

}  // namespace
}  // namespace lrq::quant
