#include "src/eval/judging.h"

#include <algorithm>
#include <string_view>

#include <ATen/ATen.h>

#include "src/base/check.h"

namespace lrq::eval {
namespace {

at::TensorOptions on_host(at::ScalarType dtype) {
  return at::TensorOptions().dtype(dtype).device(at::kCPU);
}

/// Give every rank what `root` has; on the others `t` says the shape.
void share(dist::Transport& transport, at::Tensor& t, Rank root, std::string_view label) {
  if (transport.rank() != root) return transport.recv(t, root, label)->wait();
  for (int to = 0; to < transport.size(); ++to) {
    if (to != root.value) transport.send(t, Rank{to}, label)->wait();
  }
}

/// Sizes of one passage: T, n, A.
struct Sizes {
  std::int64_t input = 0;
  std::int64_t targets = 0;
  std::int64_t alternatives = 0;
};

/// What every rank must know of the passages that rank 0 has.
std::vector<Sizes> share_sizes(dist::Transport& transport, const std::vector<Passage>& passages) {
  const bool first = transport.rank().value == 0;
  at::Tensor count = at::full({1}, static_cast<std::int64_t>(passages.size()), on_host(at::kLong));
  share(transport, count, Rank{0}, "passages");
  at::Tensor table = at::zeros({count[0].item<std::int64_t>(), 3}, on_host(at::kLong));
  auto* row = table.mutable_data_ptr<std::int64_t>();
  for (std::size_t i = 0; first && i < passages.size(); ++i, row += 3) {
    const Passage& passage = passages[i];
    expect(!passage.targets.empty() && !passage.targets.front().empty(), "a passage has targets");
    row[0] = static_cast<std::int64_t>(passage.input.size());
    row[1] = static_cast<std::int64_t>(passage.targets.front().size());
    row[2] = static_cast<std::int64_t>(passage.targets.size());
    expect(row[1] <= row[0], "a passage has a position for every target");
  }
  share(transport, table, Rank{0}, "passage sizes");
  std::vector<Sizes> sizes;
  const auto* value = table.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < table.size(0); ++i, value += 3) {
    sizes.push_back({.input = value[0], .targets = value[1], .alternatives = value[2]});
  }
  return sizes;
}

/// All targets in a row, int32, on rank 0 and on the last stage, which judges.
at::Tensor share_targets(dist::Transport& transport, const std::vector<Passage>& passages,
                         const std::vector<Sizes>& sizes, Rank last) {
  std::int64_t count = 0;
  for (const Sizes& one : sizes) count += one.targets * one.alternatives;
  at::Tensor all = at::empty({count}, on_host(at::kInt));
  auto* out = all.mutable_data_ptr<std::int32_t>();
  for (const Passage& passage : passages) {
    for (const auto& targets : passage.targets) {
      expect(targets.size() == passage.targets.front().size(), "alternatives are equally long");
      out = std::copy(targets.begin(), targets.end(), out);
    }
  }
  if (last.value == 0) return all;
  if (transport.rank().value == 0) transport.send(all, last, "targets")->wait();
  if (transport.rank() == last) transport.recv(all, Rank{0}, "targets")->wait();
  return all;
}

}  // namespace

Judging::Judging(dist::Transport& transport, const std::vector<Passage>& passages, Rank last)
    : transport_(transport), last_(last) {
  const std::vector<Sizes> sizes = share_sizes(transport, passages);
  std::int64_t targets = 0;
  std::int64_t alternatives = 0;
  for (const Sizes& one : sizes) {
    lengths_.push_back(one.input);
    places_.push_back({.target = targets,
                       .score = alternatives,
                       .targets = one.targets,
                       .alternatives = one.alternatives});
    targets += one.alternatives * one.targets;
    alternatives += one.alternatives;
  }
  targets_ = share_targets(transport, passages, sizes, last);
  found_ = at::zeros({alternatives, 2}, on_host(at::kDouble));
}

at::Tensor Judging::targets(std::int64_t passage) const {
  const Place& place = places_.at(static_cast<std::size_t>(passage));
  return targets_.narrow(0, place.target, place.alternatives * place.targets)
      .view({place.alternatives, place.targets})
      .to(at::kLong);
}

void Judging::record(std::int64_t passage, const at::Tensor& found) {
  const Place& place = places_.at(static_cast<std::size_t>(passage));
  found_.narrow(0, place.score, place.alternatives).copy_(found);
}

std::vector<Score> Judging::scores() {
  share(transport_, found_, last_, "scores");
  const auto* value = found_.const_data_ptr<double>();
  std::vector<Score> scores;
  for (const Place& place : places_) {
    for (std::int64_t i = 0; i < place.alternatives; ++i, value += 2) {
      scores.push_back(
          {.log_likelihood = value[0], .greedy = value[1] != 0.0, .tokens = place.targets});
    }
  }
  return scores;
}

}  // namespace lrq::eval
