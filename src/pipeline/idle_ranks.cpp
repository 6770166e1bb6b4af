#include "src/pipeline/idle_ranks.h"

#include <ATen/ATen.h>

namespace lrq::pipeline {
namespace {

constexpr auto kBeat = std::chrono::seconds(1);

at::Tensor sign(bool over) {
  return at::full({1}, over ? 1 : 0, at::TensorOptions().dtype(at::kByte).device(at::kCPU));
}

}  // namespace

IdleRanks::IdleRanks(dist::Transport& transport, int first_idle)
    : transport_(transport), first_idle_(first_idle) {}

void IdleRanks::tell(bool over) {
  for (auto& pending : in_flight_) pending->wait();
  in_flight_.clear();
  for (int rank = first_idle_; rank < transport_.size(); ++rank) {
    in_flight_.push_back(transport_.send(sign(over), Rank{rank}, "sign of life"));
  }
  last_ = std::chrono::steady_clock::now();
}

void IdleRanks::beat() {
  if (std::chrono::steady_clock::now() - last_ >= kBeat) tell(false);
}

void IdleRanks::release() {
  tell(true);
  for (auto& pending : in_flight_) pending->wait();
  in_flight_.clear();
}

void wait_as_idle_rank(dist::Transport& transport) {
  at::Tensor said = sign(false);
  while (said.item<std::uint8_t>() == 0) {
    transport.recv(said, Rank{0}, "sign of life")->wait();
  }
}

}  // namespace lrq::pipeline
