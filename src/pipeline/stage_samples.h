#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "io/activation_store.h"
#include "io/read_ahead.h"

namespace lrq::pipeline {

/// What one rank reads from the run's shards while a wave learns, ahead of its use.
class StageSamples {
 public:
  struct Order {
    std::int64_t first_step = 0;
    std::int64_t steps = 0;          ///< none is read from that one on
    std::int64_t micro_batches = 1;  ///< M: step t reads what step t + M reads
    std::int64_t batch_size = 1;     ///< B: step t is of the samples from (t mod M) B on, of which
    std::int64_t offset = 0;         ///< this rank takes those from `offset` on,
    std::int64_t count = 1;          ///< so many
    /// The step behind the turn that begins with `first`: a block does a whole turn before the
    /// next.
    std::function<std::int64_t(std::int64_t first)> turn_end = [](std::int64_t first) {
      return first + 1;
    };
  };
  /// What one block reads.
  struct Readers {
    std::unique_ptr<io::BoundaryReader> inputs;   ///< or null
    std::unique_ptr<io::BoundaryReader> targets;  ///< or null
  };
  /// blocks: the readers of each, in their order.
  /// place: as io::ReadAhead takes it.
  StageSamples(std::vector<Readers> blocks, const Order& order,
               std::function<at::Tensor(const at::Tensor&)> place = nullptr);

  /// The samples of a step for one block: `count` tensors [1, T, C].  Turns in order, within a turn
  /// blocks in order, within a block steps, and of a step inputs before targets.
  /// Throws DataError.
  [[nodiscard]] std::vector<at::Tensor> inputs(std::size_t block, std::int64_t step);
  [[nodiscard]] std::vector<at::Tensor> targets(std::size_t block, std::int64_t step);

  /// Turns end elsewhere than was said: go on with the one that begins with `step`.
  void restart(std::int64_t step);

 private:
  [[nodiscard]] std::int64_t first_sample(std::int64_t step) const;
  [[nodiscard]] std::size_t window() const;
  io::PlannedRead next_read();
  std::vector<at::Tensor> take(std::size_t reader, std::int64_t step);

  std::vector<std::unique_ptr<io::BoundaryReader>>
      readers_;  // of each block two, which may be null
  Order order_;
  std::function<at::Tensor(const at::Tensor&)> place_;
  // Of the read that is planned next:
  std::int64_t turn_ = 0;
  std::size_t block_ = 0;
  std::int64_t step_ = 0;
  std::size_t reader_ = 0;  // 0 or 1 of that block
  std::int64_t sample_ = 0;
  std::optional<io::ReadAhead> ahead_;  // last: it reads by the others
};

}  // namespace lrq::pipeline
