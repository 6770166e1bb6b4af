#include "dist/mpi_transport.h"

#include <iostream>
#include <thread>

#include <gtest/gtest.h>

#include "dist/collectives.h"
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
    if (std::string(GetParam().name) == "EverySize") return;  // 64 MiB in pieces of 1000 bytes
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
