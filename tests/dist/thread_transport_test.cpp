#include "dist/thread_transport.h"

#include <thread>
#include <tuple>

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include "dist/collectives.h"
#include "dist/self_transport.h"
#include "src/base/error.h"
#include "tests/dist/contract_cases.h"
#include "tests/dist/threads.h"

namespace lrq::dist {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kTimeout{20'000};

class ThreadContractTest : public testing::TestWithParam<contract::CaseOnRanks> {};

TEST_P(ThreadContractTest, Holds) {
  const auto& [promise, ranks] = GetParam();
  EXPECT_NO_THROW(run_as_threads(ranks, kTimeout, promise.body));
}

INSTANTIATE_TEST_SUITE_P(Ranks, ThreadContractTest, contract::cases_on_ranks(), contract::name_of);

TEST(ThreadTransportTest, ReceiveOfAnotherSizeThrows) {
  for (const std::int64_t sent : {0, 7, 9, 4096}) {
    EXPECT_NO_THROW(run_as_threads(
        2, kTimeout, [&](Transport& t) { contract::receive_of_another_size(t, sent); }))
        << sent << " bytes";
  }
}

TEST(ThreadTransportTest, ReceiveOfAnotherDtypeThrowsAndNamesBoth) {
  const auto body = [](Transport& t) {
    const at::Tensor tensor = at::empty({2}, t.rank().value == 0 ? at::kFloat : at::kInt);
    if (t.rank().value == 0) t.send(tensor, Rank{1}, "x")->wait();
    if (t.rank().value == 1) t.recv(tensor, Rank{0}, "x")->wait();
  };
  try {
    run_as_threads(2, kTimeout, body);
    FAIL() << "nothing was thrown";
  } catch (const TransportError& error) {
    EXPECT_NE(error.text().what.find("found 8 bytes of Float"), std::string::npos);
    EXPECT_NE(error.text().what.find("expected 8 bytes of Int"), std::string::npos);
  }
}

TEST(ThreadTransportTest, TimeoutNamesPeerAndLabel) {
  EXPECT_NO_THROW(run_as_threads(2, milliseconds(30), contract::timeout_names_peer_and_label));
}

TEST(ThreadTransportTest, EveryPeerOfAStalledRankNamesItInTime) {
  EXPECT_NO_THROW(run_as_threads(4, milliseconds(30), contract::peers_name_a_stalled_rank));
}

TEST(ThreadTransportTest, AWaitCallsTheWorkThatGoesOnMeanwhile) {
  ThreadWorld world(2, kTimeout);
  const auto sender = world.rank(Rank{1});
  const at::Tensor tensor = at::empty({1}, at::kByte);
  std::unique_ptr<Pending> send;
  const auto receiver = world.rank(Rank{0}, [&] {
    if (!send) send = sender->send(tensor, Rank{0}, "x");
  });
  receiver->recv(at::empty({1}, at::kByte), Rank{1}, "x")->wait();  // of what the work sends
  EXPECT_TRUE(send);
}

TEST(ThreadTransportTest, AbortWakesEveryWaitingPeerWithTheSameError) {
  ThreadWorld world(3, kTimeout);
  std::vector<std::string> told(3);
  const auto start = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < 3; ++rank) {
      threads.emplace_back([&, rank] {
        const auto t = world.rank(Rank{rank});
        const at::Tensor in = at::empty({1}, at::kByte);
        if (rank == 2) {
          std::this_thread::sleep_for(milliseconds(30));
          t->abort(5);
          t->abort(4);  // the first call counts
          return;
        }
        try {
          t->recv(in, Rank{2}, "never sent")->wait();
        } catch (const TransportError& error) {
          told[static_cast<std::size_t>(rank)] = error.text().what;
        }
      });
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(1000));
  EXPECT_EQ(told[0], "rank 2 ended the job with exit code 5");
  EXPECT_EQ(told[1], told[0]);
}

TEST(SelfTransportTest, IsAWorldOfOneWhereAMessageIsABug) {
  ThreadWorld world(1, kTimeout);
  const auto t = world.rank(Rank{0});
  EXPECT_EQ(t->name(), "self");
  const at::Tensor tensor = at::empty({1}, at::kByte);
  EXPECT_THROW((void)t->send(tensor, Rank{0}, "x"), BugError);
  EXPECT_THROW((void)t->recv(tensor, Rank{1}, "x"), BugError);
  barrier(*t, "alone");
  EXPECT_EQ(broadcast_text(*t, "text", Rank{0}, "x"), "text");
  EXPECT_EQ(gather(*t, tensor, Rank{0}, "x").size(), 1U);
  EXPECT_EQ(gather_text(*t, "mine", Rank{0}, "x"), std::vector<std::string>{"mine"});
}

}  // namespace
}  // namespace lrq::dist
