#include "src/pipeline/activation_link.h"

#include <iterator>
#include <utility>

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/pipeline/plan_check.h"

namespace lrq::pipeline {
namespace {

at::Tensor count_of(std::int64_t messages) {
  return at::full({1}, messages, at::TensorOptions().dtype(at::kLong).device(at::kCPU));
}

}  // namespace

InboundLink::InboundLink(dist::Transport& transport, Rank from, MessageShape shape,
                         std::int64_t messages)
    : transport_(transport), from_(from), shape_(std::move(shape)), messages_(messages) {
  expect(shape_.lengths.empty() || std::ssize(shape_.lengths) == messages,
         "every message has its length, or all have the same");
}

void InboundLink::post() {
  expect(next_ < messages_, "a receive beyond the last message of the phase");
  const std::int64_t tokens =
      shape_.lengths.empty() ? shape_.tokens : shape_.lengths[static_cast<std::size_t>(next_)];
  ++next_;
  at::Tensor buffer = at::empty({shape_.samples, tokens, shape_.hidden},
                                at::TensorOptions(shape_.device).dtype(shape_.dtype));
  auto pending = transport_.recv(buffer, from_, "activations");
  posted_.push_back({std::move(buffer), std::move(pending), {}, {}});
  if (!shape_.counted) return;
  Posted& message = posted_.back();
  message.count = count_of(0);
  message.pending_count = transport_.recv(message.count, from_, "messages in all");
}

std::vector<at::Tensor> InboundLink::take() {
  if (posted_.empty()) post();
  Posted message = std::move(posted_.front());
  posted_.pop_front();
  if (next_ < messages_) post();  // the next one travels while this one is computed on
  message.pending->wait();
  if (shape_.counted) {
    message.pending_count->wait();
    messages_ = message.count.item<std::int64_t>();
    expect(messages_ >= next_, "a sender stops no earlier than what is awaited already");
  }
  std::vector<at::Tensor> samples;
  for (std::int64_t i = 0; i < shape_.samples; ++i) {
    // A view into a larger buffer may change the bits of a product; a whole tensor may not.
    samples.push_back(shape_.samples == 1 ? message.buffer
                                          : message.buffer.narrow(0, i, 1).clone());
  }
  return samples;
}

OutboundLink::OutboundLink(dist::Transport& transport, Rank to, MessageShape shape)
    : transport_(transport), to_(to), shape_(std::move(shape)) {}

void OutboundLink::give(const std::vector<at::Tensor>& outputs, std::int64_t messages) {
  expect(static_cast<std::int64_t>(outputs.size()) == shape_.samples,
         "a message holds one micro-batch");
  while (in_flight_.size() >= kSendsInFlight) wait_for_oldest();
  at::Tensor message;
  if (outputs.empty()) {
    message = at::empty({0}, at::TensorOptions(shape_.device).dtype(shape_.dtype));
  } else {
    message = (outputs.size() == 1 ? outputs.front() : at::cat(outputs)).contiguous();
  }
  in_flight_.push_back({transport_.send(message, to_, "activations"), {}});
  if (!shape_.counted) return;
  in_flight_.back().pending_count = transport_.send(count_of(messages), to_, "messages in all");
}

void OutboundLink::wait_for_oldest() {
  const Given& oldest = in_flight_.front();
  oldest.pending->wait();
  if (oldest.pending_count) oldest.pending_count->wait();
  in_flight_.pop_front();
}

void OutboundLink::flush() {
  while (!in_flight_.empty()) wait_for_oldest();
}

}  // namespace lrq::pipeline
