#include "dist/collectives.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <set>

#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "src/base/check.h"
#include "src/base/text.h"

namespace lrq::dist {
namespace {

/// A star around the root: with one message per peer and receives posted in rank order, the result
/// is in rank order whoever is first.

using Work = std::vector<std::unique_ptr<Pending>>;

void wait_all(const Work& work) {
  for (const auto& pending : work) pending->wait();
}

template <typename Visit>
void for_each_peer(const Transport& transport, Visit visit) {
  for (Rank peer{0}; peer.value < transport.size(); ++peer.value) {
    if (peer != transport.rank()) visit(peer);
  }
}

void check_root(const Transport& transport, Rank root) {
  expect(root.value >= 0 && root.value < transport.size(),
         concat("root ", root, " is one of ranks 0 to ", transport.size() - 1));
}

at::Tensor length_tensor(std::size_t length) {
  at::Tensor t = at::empty({1}, at::TensorOptions(at::kCPU).dtype(at::kLong));
  *t.mutable_data_ptr<std::int64_t>() = static_cast<std::int64_t>(length);
  return t;
}

at::Tensor bytes_tensor(std::int64_t length) {
  return at::empty({length}, at::TensorOptions(at::kCPU).dtype(at::kByte));
}

at::Tensor to_tensor(const std::string& text) {
  at::Tensor t = bytes_tensor(static_cast<std::int64_t>(text.size()));
  if (!text.empty()) std::memcpy(t.mutable_data_ptr(), text.data(), text.size());
  return t;
}

std::string to_text(const at::Tensor& t) {
  if (t.numel() == 0) return {};
  return {static_cast<const char*>(t.const_data_ptr()), t.nbytes()};
}

void send_text(Transport& transport, const std::string& text, Rank to, std::string_view label,
               Work& work) {
  work.push_back(transport.send(length_tensor(text.size()), to, concat(label, " length")));
  work.push_back(transport.send(to_tensor(text), to, label));
}

std::string recv_text(Transport& transport, Rank from, std::string_view label) {
  const at::Tensor length = length_tensor(0);
  transport.recv(length, from, concat(label, " length"))->wait();
  const at::Tensor bytes = bytes_tensor(*length.const_data_ptr<std::int64_t>());
  transport.recv(bytes, from, label)->wait();
  return to_text(bytes);
}

}  // namespace

void barrier(Transport& transport, std::string_view label) {
  constexpr Rank kRoot{0};
  const at::Tensor nothing = bytes_tensor(0);
  if (transport.rank() != kRoot) {
    const auto arrived = transport.send(nothing, kRoot, label);
    transport.recv(nothing, kRoot, label)->wait();
    arrived->wait();
    return;
  }
  Work arrivals;
  for_each_peer(transport,
                [&](Rank peer) { arrivals.push_back(transport.recv(nothing, peer, label)); });
  wait_all(arrivals);
  Work releases;
  for_each_peer(transport,
                [&](Rank peer) { releases.push_back(transport.send(nothing, peer, label)); });
  wait_all(releases);
}

std::string broadcast_text(Transport& transport, const std::string& text, Rank root,
                           std::string_view label) {
  check_root(transport, root);
  if (transport.rank() != root) return recv_text(transport, root, label);
  Work sends;
  for_each_peer(transport, [&](Rank peer) { send_text(transport, text, peer, label, sends); });
  wait_all(sends);
  return text;
}

std::vector<at::Tensor> gather(Transport& transport, const at::Tensor& mine, Rank root,
                               std::string_view label) {
  check_root(transport, root);
  if (transport.rank() != root) {
    transport.send(mine, root, label)->wait();
    return {};
  }
  std::vector<at::Tensor> all;
  Work receives;
  for (Rank from{0}; from.value < transport.size(); ++from.value) {
    all.push_back(from == root ? mine.clone() : at::empty_like(mine));
    if (from != root) receives.push_back(transport.recv(all.back(), from, label));
  }
  wait_all(receives);
  return all;
}

std::vector<std::string> gather_text(Transport& transport, const std::string& mine, Rank root,
                                     std::string_view label) {
  check_root(transport, root);
  if (transport.rank() != root) {
    Work sends;
    send_text(transport, mine, root, label, sends);
    wait_all(sends);
    return {};
  }
  std::vector<std::string> all;
  for (Rank from{0}; from.value < transport.size(); ++from.value) {
    all.push_back(from == root ? mine : recv_text(transport, from, label));
  }
  return all;
}

void broadcast(Transport& transport, const at::Tensor& t, Rank root, std::string_view label) {
  check_root(transport, root);
  if (transport.rank() != root) {
    transport.recv(t, root, label)->wait();
    return;
  }
  Work sends;
  for_each_peer(transport, [&](Rank peer) { sends.push_back(transport.send(t, peer, label)); });
  wait_all(sends);
}

void tree_sum(Transport& transport, const at::Tensor& t, std::span<const Rank> group,
              std::string_view label) {
  expect(std::has_single_bit(group.size()),
         concat("a tree over ", group.size(), " ranks has a power of two of them"));
  const std::set<Rank> distinct(group.begin(), group.end());
  expect(distinct.size() == group.size(), "a rank stands once in the group of a sum");
  const auto found = std::find(group.begin(), group.end(), transport.rank());
  expect(found != group.end(), "a rank that sums is in the group");
  const auto place = static_cast<std::size_t>(found - group.begin());
  for (std::size_t distance = 1; distance < group.size(); distance *= 2) {
    const Rank peer = group[place ^ distance];
    const at::Tensor theirs = at::empty_like(t);
    const auto receive = transport.recv(theirs, peer, label);
    const auto send = transport.send(t, peer, label);
    receive->wait();
    send->wait();
    const bool lower = (place & distance) == 0;
    t.copy_(lower ? at::add(t, theirs) : at::add(theirs, t));
  }
}

}  // namespace lrq::dist
