#include "tests/dist/transport_contract.h"

#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include "dist/collectives.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::dist::contract {
namespace {

using Work = std::vector<std::unique_ptr<Pending>>;

void require(bool holds, const std::string& promise) {
  if (!holds) throw Broken(promise);
}

Rank next(const Transport& t) { return Rank{(t.rank().value + 1) % t.size()}; }
Rank previous(const Transport& t) { return Rank{(t.rank().value + t.size() - 1) % t.size()}; }

/// Bytes that depend on the sender and on the number of the message.
at::Tensor pattern(std::int64_t bytes, int sender, int number) {
  at::Tensor t = at::empty({bytes}, at::kByte);
  auto* data = static_cast<std::uint8_t*>(t.mutable_data_ptr());
  for (std::int64_t i = 0; i < bytes; ++i) {
    data[i] = static_cast<std::uint8_t>(i * 7 + (i >> 12) + sender * 31 + number * 101);
  }
  return t;
}

/// Where a message is to arrive: what a faulty transport leaves unwritten is no message.
at::Tensor unwritten(std::int64_t bytes) { return at::full({bytes}, 0xEE, at::kByte); }

bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  return a.nbytes() == b.nbytes() && a.scalar_type() == b.scalar_type() &&
         (a.nbytes() == 0 || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0);
}

/// Send around the ring, both ends posted before either is waited for, the send waited for first.
void around_the_ring(Transport& t, const at::Tensor& out, const at::Tensor& in) {
  const auto receive = t.recv(in, previous(t), "ring");
  const auto send = t.send(out, next(t), "ring");
  send->wait();
  receive->wait();
}

void order_per_pair(Transport& t) {
  constexpr int kMessages = 20;
  Work sends;
  for (int i = 0; i < kMessages; ++i) {
    sends.push_back(t.send(at::full({4}, i, at::kInt), next(t), concat("message ", i)));
  }
  for (int i = 0; i < kMessages; ++i) {
    const at::Tensor in = at::full({4}, -1, at::kInt);
    t.recv(in, previous(t), concat("message ", i))->wait();
    const int found = *in.const_data_ptr<int>();
    require(found == i, concat("message ", i, " arrived as number ", found));
  }
  for (const auto& send : sends) send->wait();
}

void receives_waited_in_any_order(Transport& t) {
  const std::array in = {at::full({3}, -1, at::kInt), at::full({3}, -1, at::kInt)};
  const auto first = t.recv(in[0], previous(t), "first");
  const auto second = t.recv(in[1], previous(t), "second");
  const auto send_first = t.send(at::full({3}, 1, at::kInt), next(t), "first");
  const auto send_second = t.send(at::full({3}, 2, at::kInt), next(t), "second");
  second->wait();
  first->wait();
  send_first->wait();
  send_second->wait();
  require(*in[0].const_data_ptr<int>() == 1, "the first receive holds the first message");
  require(*in[1].const_data_ptr<int>() == 2, "the second receive holds the second message");
}

void both_directions_at_once(Transport& t) {
  constexpr std::int64_t kBytes = 8 << 20;  // more than any transport buffers by itself
  Work work;
  std::vector<at::Tensor> in(static_cast<std::size_t>(t.size()));
  for (Rank peer{0}; peer.value < t.size(); ++peer.value) {
    if (peer == t.rank()) continue;
    at::Tensor& into = in[static_cast<std::size_t>(peer.value)];
    into = unwritten(kBytes);
    work.push_back(t.send(pattern(kBytes, t.rank().value, peer.value), peer, "exchange"));
    work.push_back(t.recv(into, peer, "exchange"));
  }
  for (const auto& pending : work) pending->wait();
  for (Rank peer{0}; peer.value < t.size(); ++peer.value) {
    if (peer == t.rank()) continue;
    require(same_bytes(in[static_cast<std::size_t>(peer.value)],
                       pattern(kBytes, peer.value, t.rank().value)),
            concat("exchange with rank ", peer, " arrived whole"));
  }
}

void every_size(Transport& t) {
  for (const std::int64_t bytes : {0L, 1L, 1000L, 1L << 20}) {
    const at::Tensor in = unwritten(bytes);
    around_the_ring(t, pattern(bytes, t.rank().value, 0), in);
    require(same_bytes(in, pattern(bytes, previous(t).value, 0)),
            concat("a message of ", bytes, " bytes arrived whole"));
  }
  // Once: memory for it on every rank of a machine would be much.
  constexpr std::int64_t kLarge = 256 << 20;
  const auto values = [] { return at::arange(kLarge / 8, at::kLong); };
  if (t.rank().value == 0) t.send(values(), Rank{1}, "large")->wait();
  if (t.rank().value != 1) return;
  const at::Tensor in = at::zeros({kLarge / 8}, at::kLong);
  t.recv(in, Rank{0}, "large")->wait();
  require(in.equal(values()), "a message of 256 MiB arrived whole");
}

void every_dtype(Transport& t) {
  for (const auto dtype :
       {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble, at::kLong, at::kInt, at::kShort,
        at::kChar, at::kByte, at::kBool, at::kComplexFloat, at::kFloat8_e4m3fn}) {
    const auto value = [&](Rank rank) {
      return at::arange(10, at::kFloat).add(rank.value * 10).to(dtype).view({2, 5});
    };
    const at::Tensor in = at::zeros({2, 5}, dtype);
    around_the_ring(t, value(t.rank()), in);
    require(same_bytes(in, value(previous(t))), concat(at::toString(dtype), " arrived whole"));
  }
}

void many_outstanding_sends(Transport& t) {
  constexpr int kMessages = 200;
  Work sends;
  for (int i = 0; i < kMessages; ++i) {
    const std::int64_t bytes = i % 10 == 0 ? 100'000 : i;
    sends.push_back(t.send(pattern(bytes, t.rank().value, i), next(t), concat("many ", i)));
  }
  for (int i = 0; i < kMessages; ++i) {
    const std::int64_t bytes = i % 10 == 0 ? 100'000 : i;
    const at::Tensor in = unwritten(bytes);
    t.recv(in, previous(t), concat("many ", i))->wait();
    require(same_bytes(in, pattern(bytes, previous(t).value, i)),
            concat("message ", i, " of many"));
  }
  for (const auto& send : sends) send->wait();
}

void tensor_is_free_after_wait(Transport& t) {
  constexpr int kMessages = 5;
  for (const std::int64_t count : {4L, 100'000L}) {
    at::Tensor buffer = at::full({count}, -1, at::kInt);
    if (t.rank().value == 0) {
      for (int i = 0; i < kMessages; ++i) {
        buffer.fill_(i);
        t.send(buffer, Rank{1}, "reused")->wait();
      }
    }
    if (t.rank().value != 1) continue;
    for (int i = 0; i < kMessages; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));  // let rank 0 run ahead, if it can
      t.recv(buffer, Rank{0}, "reused")->wait();
      require(buffer.eq(i).all().item<bool>(),
              concat("message ", i, " holds what was sent, not a later value"));
    }
  }
}

void dropped_pending_is_carried_out(Transport& t) {
  for (const std::int64_t bytes : {10L, 1L << 20}) {
    (void)t.send(pattern(bytes, t.rank().value, 1), next(t), "not waited for");
    const at::Tensor in = unwritten(bytes);
    t.recv(in, previous(t), "not waited for")->wait();
    require(same_bytes(in, pattern(bytes, previous(t).value, 1)), "a dropped send arrives whole");
    barrier(t, "after a dropped send");
  }
}

void second_wait_returns(Transport& t) {
  const at::Tensor in = unwritten(1);
  const auto receive = t.recv(in, previous(t), "twice");
  const auto send = t.send(pattern(1, t.rank().value, 0), next(t), "twice");
  for (int i = 0; i < 2; ++i) {
    send->wait();
    receive->wait();
  }
}

void barrier_holds_everyone(Transport& t) {
  constexpr auto kDelay = std::chrono::milliseconds(60);
  barrier(t, "start");
  for (int late = 0; late < t.size(); ++late) {
    const auto start = std::chrono::steady_clock::now();
    if (t.rank().value == late) std::this_thread::sleep_for(kDelay);
    barrier(t, "late");
    // Others may have left the barrier before a little earlier than the late rank did.
    require(std::chrono::steady_clock::now() - start > kDelay / 2,
            concat("nobody passes a barrier before rank ", late));
  }
}

void texts_reach_everyone(Transport& t) {
  for (int root = 0; root < t.size(); ++root) {
    const bool mine = t.rank().value == root;
    const std::string text = concat("root ", root, " says \"h\xc3\xa4\", ", std::string(5000, 'x'));
    require(broadcast_text(t, mine ? text : "", Rank{root}, "text") == text, "a text arrives");
    require(broadcast_text(t, mine ? "" : "not this", Rank{root}, "empty").empty(),
            "an empty text arrives");
  }
}

void gather_is_in_rank_order(Transport& t) {
  const Rank root{t.size() - 1};
  const auto tensors = gather(t, at::full({3}, t.rank().value, at::kLong), root, "gather");
  const auto texts =
      gather_text(t, std::string(static_cast<std::size_t>(t.rank().value), 'x'), root, "texts");
  const std::size_t expected = t.rank() == root ? static_cast<std::size_t>(t.size()) : 0;
  require(tensors.size() == expected && texts.size() == expected, "only the root collects");
  for (std::size_t i = 0; i < expected; ++i) {
    require(tensors[i].eq(static_cast<std::int64_t>(i)).all().item<bool>(), "tensors by rank");
    require(texts[i].size() == i, "texts by rank");
  }
}

void broadcast_reaches_everyone(Transport& t) {
  for (int root = 0; root < t.size(); ++root) {
    const at::Tensor mine = at::full({2, 30}, t.rank().value, at::kFloat);
    broadcast(t, mine, Rank{root}, "broadcast");
    require(mine.eq(root).all().item<bool>(), "everyone has the root's values");
  }
}

void tree_sum_is_the_fixed_tree(Transport& t) {
  // In float, 1e8 + 1 is 1e8: (1e8 + 1) + (-1e8 + 1) is 0, while from left to right it is 1, and
  // with the middle two first it is 2.
  constexpr std::array kTerms = {1e8F, 1.0F, -1e8F, 1.0F};
  std::vector<Rank> group;
  const int ranks = t.size() >= 4 ? 4 : 2;
  for (int place = 0; place < ranks; ++place) group.push_back(Rank{ranks - 1 - place});
  if (t.rank().value < ranks) {
    const auto place = static_cast<std::size_t>(ranks - 1 - t.rank().value);
    const at::Tensor sum = at::full({50}, kTerms.at(place), at::kFloat);
    tree_sum(t, sum, group, "gradients");
    require(sum.eq(ranks == 4 ? 0.0F : 1e8F).all().item<bool>(), "the sum is the tree's");
  }
  // A group of one, and a part of the ranks: the others go on.
  const at::Tensor alone = at::full({3}, 5.0F, at::kFloat);
  tree_sum(t, alone, std::array{t.rank()}, "alone");
  require(alone.eq(5).all().item<bool>(), "a sum over one rank is its own");
  barrier(t, "after the sums");
}

void waiting_is_measured(Transport& t) {
  constexpr auto kDelay = std::chrono::milliseconds(50);
  barrier(t, "start");
  const auto before = t.waited();
  const at::Tensor in = unwritten(1);
  if (t.rank().value == 1) {
    std::this_thread::sleep_for(kDelay);
    t.send(in, Rank{0}, "late")->wait();
  } else if (t.rank().value == 0) {
    t.recv(in, Rank{1}, "late")->wait();
    require(t.waited() - before > kDelay / 2, "the time inside wait() counts");
  }
  barrier(t, "end");
}

void own_mistakes_are_bugs(Transport& t) {
  const auto is_bug = [](auto call) {
    try {
      (void)call();
    } catch (const BugError&) {
      return true;
    }
    return false;
  };
  const at::Tensor ok = at::empty({2, 3}, at::kByte);
  require(is_bug([&] { return t.send(ok, t.rank(), "self"); }), "nobody sends to itself");
  require(is_bug([&] { return t.recv(ok, Rank{t.size()}, "x"); }), "a peer is a rank of the run");
  require(is_bug([&] { return t.recv(ok, Rank{-1}, "x"); }), "a peer is a rank of the run");
  require(is_bug([&] { return t.send(ok.t(), next(t), "x"); }), "a tensor is contiguous");
}

constexpr std::array kCases = {Case{"OrderPerPair", order_per_pair},
                               Case{"ReceivesWaitedInAnyOrder", receives_waited_in_any_order},
                               Case{"BothDirectionsAtOnce", both_directions_at_once},
                               Case{"EverySize", every_size},
                               Case{"EveryDtype", every_dtype},
                               Case{"ManyOutstandingSends", many_outstanding_sends},
                               Case{"TensorIsFreeAfterWait", tensor_is_free_after_wait},
                               Case{"DroppedPendingIsCarriedOut", dropped_pending_is_carried_out},
                               Case{"SecondWaitReturns", second_wait_returns},
                               Case{"BarrierHoldsEveryone", barrier_holds_everyone},
                               Case{"TextsReachEveryone", texts_reach_everyone},
                               Case{"GatherIsInRankOrder", gather_is_in_rank_order},
                               Case{"BroadcastReachesEveryone", broadcast_reaches_everyone},
                               Case{"TreeSumIsTheFixedTree", tree_sum_is_the_fixed_tree},
                               Case{"WaitingIsMeasured", waiting_is_measured},
                               Case{"OwnMistakesAreBugs", own_mistakes_are_bugs}};

/// Run a wait that must throw and return the message as the user reads it.
std::string message_of(Pending& pending) {
  try {
    pending.wait();
  } catch (const TransportError& error) {
    return format_error(error.text(), "test");
  }
  throw Broken("wait() throws a TransportError");
}

void require_text(const std::string& message, const std::string& part) {
  require(message.find(part) != std::string::npos, concat("'", part, "' in: ", message));
}

}  // namespace

std::span<const Case> cases() { return kCases; }

void receive_of_another_size(Transport& t, std::int64_t sent_bytes) {
  if (t.rank().value == 0) {
    try {
      t.send(pattern(sent_bytes, 0, 0), Rank{1}, "wave 2 batch 7")->wait();
    } catch (const TransportError&) {
      return;  // a transport that tells the sender too
    }
  }
  if (t.rank().value != 1) return;
  const at::Tensor in = unwritten(8);
  const std::string message = message_of(*t.recv(in, Rank{0}, "wave 2 batch 7"));
  require_text(message, "expected 8 bytes");
  require_text(message, "rank 1 receives 'wave 2 batch 7' (8 bytes) from rank 0");
}

void timeout_names_peer_and_label(Transport& t) {
  if (t.rank().value != 0) return;
  const at::Tensor in = unwritten(8);
  const auto receive = t.recv(in, Rank{1}, "wave 2 batch 7");
  const std::string message = message_of(*receive);
  require_text(message, "no answer from rank 1: waited ");
  require_text(message, " ms for it to send 'wave 2 batch 7'");
  require_text(message, "rank 0 receives 'wave 2 batch 7' (8 bytes) from rank 1");
}

void peers_name_a_stalled_rank(Transport& t) {
  const Rank stalled{t.size() - 1};
  if (t.rank() == stalled) return;
  const at::Tensor tensor = pattern(100'000, 0, 0);
  const bool sends = t.rank().value % 2 == 0;
  const auto pending =
      sends ? t.send(tensor, stalled, "wave 2 batch 7") : t.recv(tensor, stalled, "wave 2 batch 7");
  require_text(message_of(*pending), concat("no answer from rank ", stalled, ": waited "));
}

}  // namespace lrq::dist::contract
