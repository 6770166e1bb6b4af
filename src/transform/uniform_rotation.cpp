#include "src/transform/uniform_rotation.h"

#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "src/base/check.h"
#include "src/transform/householder_target.h"

namespace lrq::transform {
namespace {

using at::Tensor;

// Blocks as columns, so that a permutation moves whole rows and a pair is two rows.
struct Search {
  Tensor columns;  // [B, M], in the sample's dtype: it only decides on the targets
  Tensor product;  // [B, B] float64 on the CPU, of all factors so far; acts from the left
};

// The block with the largest |value|, the first of equal ones.
Tensor outlier_of(const Tensor& columns) {
  const Tensor largest = at::maximum(columns.amax(0), -columns.amin(0));
  const auto at = largest.argmax().item<std::int64_t>();
  return columns.select(1, at).to(at::kCPU, at::kDouble);
}

// matrix <- (I - 2 w w' / w.w) matrix.
void reflect_rows(Tensor& matrix, const Tensor& w, double square) {
  const Tensor along = w.to(matrix.options());
  const Tensor shadow = matrix.t().mv(along);
  matrix.addr_(along, shadow, /*beta=*/1, /*alpha=*/-2 / square);
}

// Rows in the order p, then rows 2i and 2i+1 mixed by turns[i].  turns [B / 2, 2, 2].
Tensor turn_rows(const Tensor& matrix, const Tensor& p, const Tensor& turns) {
  const Tensor moved = matrix.index_select(0, p.to(matrix.device()));
  return at::bmm(turns.to(matrix.options()), moved.view({turns.size(0), 2, matrix.size(1)}))
      .view(matrix.sizes());
}

// The plane rotations that send each pair of u to r ||pair|| / ||r||: [B / 2, 2, 2].
//   c = u.t / |u|^2,  q = (u0 t1 - u1 t0) / |u|^2,  [[c, -q], [q, c]]
Tensor plane_rotations(const Tensor& u, const Tensor& r, GivensTurn direction) {
  const Tensor from = u.view({-1, 2});
  const Tensor to = r.view({-1, 2});
  const Tensor scale = from.norm(2, 1) * to.norm(2, 1);
  const Tensor cosine = (from * to).sum(1) / scale;
  const Tensor cross = from.select(1, 0) * to.select(1, 1) - from.select(1, 1) * to.select(1, 0);
  const Tensor sine = direction == GivensTurn::kTarget ? cross / scale : -cross / scale;
  const Tensor turns = at::stack({cosine, -sine, sine, cosine}, 1).view({-1, 2, 2});
  const Tensor usable = scale.gt(0).logical_and(scale.isfinite()).view({-1, 1, 1});
  return at::where(usable, turns, at::eye(2, turns.options()));
}

void advance(Search& search, const UniformOptions& options, const Draws& draws) {
  const Tensor w = uniform_reflection(outlier_of(search.columns), draws);
  if (const auto square = w.dot(w).item<double>(); square > 0) {
    reflect_rows(search.columns, w, square);
    reflect_rows(search.product, w, square);
  }
  for (std::int64_t i = 0; i < options.random_permutations; ++i) {
    const Tensor p = draws.permutation(options.block);
    // Which block holds the largest value does not depend on the order of its rows.
    const Tensor u = outlier_of(search.columns).index_select(0, p);
    const Tensor turns = plane_rotations(u, draws.uniform(options.block), options.givens);
    search.columns = turn_rows(search.columns, p, turns);
    search.product = turn_rows(search.product, p, turns);
  }
}

// x [N, C] as one matrix [B, N * C / B], or as one [B, N] for each block; always a copy.
std::vector<Search> start(const Tensor& x, std::int64_t block, Blocks blocks) {
  const Tensor sample = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
  std::vector<Search> searches;
  const auto add = [&](const Tensor& rows) {
    searches.push_back({.columns = rows.t().clone(at::MemoryFormat::Contiguous),
                        .product = at::eye(block, at::device(at::kCPU).dtype(at::kDouble))});
  };
  if (blocks == Blocks::kShared) {
    add(sample.reshape({-1, block}));
  } else {
    for (const Tensor& part : sample.split(block, 1)) add(part);
  }
  return searches;
}

}  // namespace

Tensor uniform_rotation(const Tensor& x, const UniformOptions& options,
                        const std::function<Draws(std::int64_t step)>& draws) {
  const std::int64_t block = options.block;
  expect(x.dim() == 2 && x.size(0) > 0 && block > 0 && block % 2 == 0 && x.size(1) % block == 0,
         "a block rotation is built on [N, C], the block size an even divisor of C");
  const c10::NoGradGuard no_grad;
  std::vector<Search> searches = start(x, block, options.blocks);
  for (std::int64_t step = 0; step < options.steps; ++step) {
    const Draws numbers = draws(step);
    for (Search& search : searches) advance(search, options, numbers);
  }
  std::vector<Tensor> rotations;
  for (const Search& search : searches) {
    rotations.push_back(search.product.t().contiguous().to(x.device(), at::kFloat));
  }
  return options.blocks == Blocks::kShared ? rotations.front() : at::stack(rotations);
}

}  // namespace lrq::transform
