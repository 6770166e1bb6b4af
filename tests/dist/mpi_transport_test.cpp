#include "dist/mpi_transport.h"

#include <iostream>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include "dist/collectives.h"
#include "dist/host_link.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "tests/dist/transport_contract.h"

/// Runs as every rank of an mpirun: each test is one body that all ranks enter together.

namespace lrq::dist {
namespace {

using std::chrono::milliseconds;

MpiSession* session = nullptr;  // made in main, before the tests; MPI starts once in a process

/// Run the body on a transport of its own, then meet the other ranks.  A failed rank ends the job,
/// as its peers would wait for it.
void run_as_ranks(const MpiTransportOptions& options, const std::function<void(Transport&)>& body) {
  const auto transport = make_mpi_transport(*session, options);
  try {
    body(*transport);
  } catch (const Error& error) {
    std::cerr << format_error(error.text(), concat("rank ", session->rank()));
    transport->abort(1);
  } catch (const std::exception& error) {
    std::cerr << "rank " << session->rank() << ": " << error.what() << "\n";
    transport->abort(1);
  }
}

const MpiTransportOptions kOptions{.timeout = milliseconds(60'000)};

class MpiContractTest : public testing::TestWithParam<contract::Case> {};

TEST_P(MpiContractTest, Holds) { run_as_ranks(kOptions, GetParam().body); }

TEST_P(MpiContractTest, HoldsWhenMessagesAreCutIntoPieces) {
  run_as_ranks({.timeout = kOptions.timeout, .piece_bytes = 1000}, [](Transport& t) {
    if (std::string(GetParam().name) == "EverySize") return;  // 256 MiB in pieces of 1000 bytes
    if (std::string(GetParam().name) == "BothDirectionsAtOnce") return;
    GetParam().body(t);
  });
  run_as_ranks({.timeout = kOptions.timeout, .piece_bytes = 1 << 20}, GetParam().body);
}

INSTANTIATE_TEST_SUITE_P(Ranks, MpiContractTest,
                         testing::ValuesIn(contract::cases().begin(), contract::cases().end()),
                         [](const auto& case_info) { return case_info.param.name; });

TEST(MpiTransportTest, ReceiveOfAnotherSizeThrows) {
  for (const std::int64_t sent : {0, 7, 9, 3000}) {
    run_as_ranks(kOptions, [&](Transport& t) { contract::receive_of_another_size(t, sent); });
  }
}

TEST(MpiTransportTest, ReceiveOfAnotherSizeThrowsWhereAPieceFits) {
  // Pieces of 4 bytes: the 8 bytes expected are two whole pieces and the empty end.
  for (const std::int64_t sent : {0, 3, 4, 6, 9, 12, 16}) {
    run_as_ranks({.timeout = kOptions.timeout, .piece_bytes = 4},
                 [&](Transport& t) { contract::receive_of_another_size(t, sent); });
  }
}

TEST(MpiTransportTest, TimeoutNamesPeerAndLabel) {
  run_as_ranks({.timeout = milliseconds(30)}, contract::timeout_names_peer_and_label);
}

TEST(MpiTransportTest, EveryPeerOfAStalledRankNamesItInTime) {
  run_as_ranks({.timeout = milliseconds(50)}, contract::peers_name_a_stalled_rank);
}

Notice offer(std::int64_t bytes) {
  return {.kind = Notice::Kind::kOffer, .dtype = 0, .bytes = bytes, .id = {}};
}

TEST(MpiHostLinkTest, NoticesOfEachRankArriveWholeAndInOrder) {
  constexpr int kNotices = 50;
  const auto link = make_mpi_host_link(*session, kOptions);
  for (int i = 0; i < kNotices; ++i) {
    Notice notice = offer(i);
    notice.id.fill(static_cast<char>(session->rank().value + 1));
    for (Rank to{0}; to.value < session->size(); ++to.value) {
      if (to != session->rank()) link->post(to, notice);
    }
  }
  std::vector<int> found(static_cast<std::size_t>(session->size()));
  const int expected = kNotices * (session->size() - 1);
  for (int arrived = 0; arrived < expected;) {
    const auto arrival = link->poll();
    if (!arrival) continue;
    ++arrived;
    EXPECT_EQ(arrival->notice.bytes, found.at(static_cast<std::size_t>(arrival->from.value))++);
    EXPECT_EQ(arrival->notice.id.back(), arrival->from.value + 1);
  }
  barrier(link->tensors(), "all notices are here");
}

TEST(MpiHostLinkTest, AWaitCallsTheWorkThatGoesOnMeanwhile) {
  const auto link = make_mpi_host_link(*session, kOptions);
  if (session->rank().value == 0) {  // waits for an answer to what only the work of its wait asks
    bool asked = false;
    link->while_waiting([&] {
      if (!std::exchange(asked, true)) link->post(Rank{1}, offer(7));
    });
    link->tensors().recv(at::empty({1}, at::kByte), Rank{1}, "answer")->wait();
    link->while_waiting({});
  } else if (session->rank().value == 1) {
    std::optional<HostLink::Arrival> question;
    while (!question) question = link->poll();
    EXPECT_EQ(question->notice.bytes, 7);
    link->tensors().send(at::empty({1}, at::kByte), Rank{0}, "answer")->wait();
  }
  barrier(link->tensors(), "end");
}

TEST(MpiSessionTest, KnowsItsRankAndItsLauncher) {
  EXPECT_TRUE(launched_by_mpi());
  EXPECT_TRUE(session->active());
  run_as_ranks(kOptions, [](Transport& t) {
    EXPECT_EQ(t.name(), "mpi");
    EXPECT_EQ(gather_text(t, concat(t.rank()), Rank{0}, "ranks").size(),
              t.rank().value == 0 ? static_cast<std::size_t>(t.size()) : 0U);
  });
}

}  // namespace
}  // namespace lrq::dist

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  lrq::dist::MpiSession session;
  lrq::dist::session = &session;
  return RUN_ALL_TESTS();
}
