#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"

namespace lrq::pipeline {

/// Shape of what passes between two stages in one message: a micro-batch.
struct MessageShape {
  std::int64_t samples = 1;  ///< B
  std::int64_t tokens = 0;   ///< T
  std::int64_t hidden = 0;   ///< C
  at::ScalarType dtype = at::kFloat;
  at::Device device;  ///< of what is sent and received: no default, so that nobody leaves it out
  /// T of each message in turn, where they differ; else empty.
  std::vector<std::int64_t> lengths = {};
  /// A word behind each message says how many messages there will be in all: a sender that stops
  /// early says so one message before its last.  samples = 0: there is nothing but the word.
  bool counted = false;
};

/// Receive micro-batches from the stage before, one message ahead of the one in use.
class InboundLink {
 public:
  /// messages: how many there will be in all, so that none is asked for beyond the last.
  InboundLink(dist::Transport& transport, Rank from, MessageShape shape, std::int64_t messages);
  /// B tensors [1, T, C], contiguous and newly allocated.
  [[nodiscard]] std::vector<at::Tensor> take();
  /// How many messages there will be in all, as far as is known; changes at most once, in take().
  [[nodiscard]] std::int64_t messages() const { return messages_; }

 private:
  void post();

  dist::Transport& transport_;  // Owns: borrowed from the run
  Rank from_;
  MessageShape shape_;
  std::int64_t messages_;
  std::int64_t next_ = 0;  ///< the message to post next
  struct Posted {
    at::Tensor buffer;
    std::unique_ptr<dist::Pending> pending;
    at::Tensor count;  // where messages are counted
    std::unique_ptr<dist::Pending> pending_count;
  };
  std::deque<Posted> posted_;
};

/// Send micro-batches to the stage after; up to kSendsInFlight are under way while compute goes on.
class OutboundLink {
 public:
  OutboundLink(dist::Transport& transport, Rank to, MessageShape shape);
  /// messages: how many there will be in all; sent along where messages are counted.
  void give(const std::vector<at::Tensor>& outputs, std::int64_t messages = 0);
  /// Wait until everything has been taken over.
  void flush();

 private:
  dist::Transport& transport_;  // Owns: borrowed from the run
  Rank to_;
  MessageShape shape_;
  struct Given {
    std::unique_ptr<dist::Pending> pending;
    std::unique_ptr<dist::Pending> pending_count;
  };
  void wait_for_oldest();

  std::deque<Given> in_flight_;
};

}  // namespace lrq::pipeline
