#include "dist/nccl_transport.h"

#include <algorithm>
#include <array>
#include <functional>
#include <latch>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "dist/collectives.h"
#include "src/base/error.h"
#include "tests/dist/contract_cases.h"
#include "tests/dist/nccl_stand_in.h"
#include "tests/dist/stand_in_threads.h"

namespace lrq::dist {
namespace {

using contract::Broken;
using std::chrono::milliseconds;

/// Messages of 100 bytes and more are the GPU's; a barrier, say, is the host's.
bool is_large(const at::Tensor& t) { return t.nbytes() >= 100; }

class NcclContractTest : public testing::TestWithParam<contract::CaseOnRanks> {};

TEST_P(NcclContractTest, HoldsOnTheStandIn) {
  const auto& [promise, ranks] = GetParam();
  const auto body = [&](Transport& t, NcclStandIn& /*stand_in*/) { promise.body(t); };
  EXPECT_NO_THROW(run_on_stand_in({.ranks = ranks}, body));
}

TEST_P(NcclContractTest, HoldsWhereSmallTensorsAreTheHosts) {
  const auto& [promise, ranks] = GetParam();
  if (std::string(promise.name) == "EverySize") return;  // 256 MiB once is enough
  const auto body = [&](Transport& t, NcclStandIn& /*stand_in*/) { promise.body(t); };
  EXPECT_NO_THROW(run_on_stand_in({.ranks = ranks, .seed = 2, .on_device = is_large}, body));
}

INSTANTIATE_TEST_SUITE_P(Ranks, NcclContractTest, contract::cases_on_ranks(), contract::name_of);

void require(bool holds, const std::string& promise) {
  if (!holds) throw Broken(promise);
}

// Promises to the compute stream, which the other transports do not have.  Each throws Broken.

void send_waits_for_what_computes_the_tensor(Transport& t, NcclStandIn& stand_in) {
  const at::Tensor tensor = stand_in.device_tensor(1000);
  if (t.rank().value == 0) {
    stand_in.compute([&] { tensor.fill_(7); });
    t.send(tensor, Rank{1}, "computed")->wait();
  } else {
    t.recv(tensor, Rank{0}, "computed")->wait();
    require(tensor.eq(7).all().item<bool>(), "a send is behind what computes its tensor");
  }
}

void receive_waits_for_what_still_reads_the_tensor(Transport& t, NcclStandIn& stand_in) {
  const at::Tensor tensor = stand_in.device_tensor(1000);
  tensor.fill_(t.rank().value + 1);
  if (t.rank().value == 0) {
    t.send(tensor, Rank{1}, "next input")->wait();
    return;
  }
  at::Tensor read;
  stand_in.compute([&] { read = tensor.clone(); });
  t.recv(tensor, Rank{0}, "next input")->wait();
  stand_in.synchronize();
  require(read.eq(2).all().item<bool>(), "a receive is behind what reads the last contents");
}

/// Rank 1 never receives, so rank 0 gives up; its tensor goes while the kernel may still run.
void memory_outlives_a_message_that_is_given_up(Transport& t, NcclStandIn& stand_in) {
  try {
    if (t.rank().value == 0) {
      t.send(stand_in.device_tensor(1000), Rank{1}, "never received")->wait();
    } else {
      // A wait of the host, below which the channel opens.
      t.recv(at::empty({1}, at::kByte), Rank{0}, "never sent")->wait();
    }
  } catch (const TransportError&) {
    t.abort(4);
    return;
  }
  throw Broken("a message that is never received ends in an error");
}

using Body = void (*)(Transport&, NcclStandIn&);

struct Promise {
  const char* name;
  Body body;
  StandInWorld world;
};

const std::array kPromises = {
    Promise{"SendWaitsForCompute", send_waits_for_what_computes_the_tensor, {}},
    Promise{"ReceiveWaitsForCompute", receive_waits_for_what_still_reads_the_tensor, {}},
    Promise{"MemoryOutlivesAMessageThatIsGivenUp",
            memory_outlives_a_message_that_is_given_up,
            {.timeout = milliseconds(100), .on_device = is_large}}};

TEST(NcclStreamsTest, EveryPromiseHoldsWhateverTheOrder) {
  for (unsigned seed = 1; seed <= 10; ++seed) {
    for (const Promise& promise : kPromises) {
      StandInWorld world = promise.world;
      world.seed = seed;
      EXPECT_NO_THROW(run_on_stand_in(world, promise.body)) << promise.name << ", seed " << seed;
    }
  }
}

/// The promises, of the contract and of the streams, that a transport with this table breaks.
/// A fault may leave both ranks waiting, so the time-out is short.
std::vector<std::string> broken_with(const NcclApi& api, milliseconds timeout = milliseconds(100)) {
  std::vector<std::string> broken;
  const auto keeps = [&](const std::string& name, StandInWorld world,
                         const std::function<void(Transport&, NcclStandIn&)>& body) {
    world.api = api;
    try {
      run_on_stand_in(world, body);
    } catch (const Broken&) {
      broken.push_back(name);
    } catch (const TransportError&) {
      broken.push_back(name);
    }
  };
  for (const Promise& promise : kPromises) keeps(promise.name, promise.world, promise.body);
  for (const contract::Case& promise : contract::cases()) {
    if (std::string(promise.name) == "EverySize") continue;  // large, and finds nothing further
    keeps(promise.name, {.timeout = timeout},
          [&](Transport& t, NcclStandIn& /*stand_in*/) { promise.body(t); });
  }
  return broken;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr milliseconds kLong{20'000};

// Transports that leave one thing out, made wrong by their table; the suite must find each.

TEST(WrongNcclTransportTest, ThatForgetsToWaitForTheEventOfComputeIsFound) {
  NcclApi api = NcclStandIn::api();
  api.stream_wait_event = [](void* /*stream*/, void* /*event*/) { return 0; };
  const auto broken = broken_with(api);
  EXPECT_TRUE(contains(broken, "SendWaitsForCompute"));
  EXPECT_TRUE(contains(broken, "ReceiveWaitsForCompute"));
}

TEST(WrongNcclTransportTest, ThatForgetsToRecordTheStreamIsFound) {
  NcclApi api = NcclStandIn::api();
  api.record_stream = [](const at::Tensor& /*tensor*/, void* /*stream*/) { return 0; };
  EXPECT_EQ(broken_with(api, kLong),
            std::vector<std::string>{"MemoryOutlivesAMessageThatIsGivenUp"});
}

TEST(WrongNcclTransportTest, ThatDoesNotWaitForCompletionIsFound) {
  NcclApi api = NcclStandIn::api();
  api.event_query = [](void* /*event*/) { return 0; };
  const auto broken = broken_with(api);
  EXPECT_TRUE(contains(broken, "OrderPerPair"));
  EXPECT_TRUE(contains(broken, "EveryDtype"));
}

TEST(WrongNcclTransportTest, ThatTakesInProgressForDoneIsFound) {
  NcclApi api = NcclStandIn::api();
  api.comm_state = [](void* /*comm*/, int* state) { return *state = 0; };
  EXPECT_TRUE(contains(broken_with(api), "OrderPerPair"));
}

TEST(WrongNcclTransportTest, WithoutAFaultBreaksNothing) {
  EXPECT_EQ(broken_with(NcclStandIn::api(), kLong), std::vector<std::string>{});
}

TEST(NcclTransportTest, ReceiveOfAnotherSizeThrows) {
  for (const std::int64_t sent : {0, 7, 9, 4096}) {
    EXPECT_NO_THROW(run_on_stand_in({},
                                    [&](Transport& t, NcclStandIn& /*stand_in*/) {
                                      contract::receive_of_another_size(t, sent);
                                    }))
        << sent << " bytes";
  }
}

/// What a world of ranks throws first.
ErrorText error_of(const StandInWorld& world,
                   const std::function<void(Transport&, NcclStandIn&)>& body) {
  try {
    run_on_stand_in(world, body);
  } catch (const TransportError& error) {
    return error.text();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

void expect_part(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' in: " << text;
}

TEST(NcclTransportTest, ReceiveOfAnotherDtypeThrowsAndTheSenderIsTold) {
  std::array<std::string, 2> told;
  const auto body = [&](Transport& t, NcclStandIn& /*stand_in*/) {
    const bool first = t.rank().value == 0;
    const at::Tensor tensor = at::empty({2}, first ? at::kFloat : at::kInt);
    try {
      (first ? t.send(tensor, Rank{1}, "x") : t.recv(tensor, Rank{0}, "x"))->wait();
    } catch (const TransportError& error) {
      told.at(first ? 0 : 1) = error.text().what;
    }
  };
  EXPECT_NO_THROW(run_on_stand_in({}, body));
  expect_part(told[0], "rank 1 refused a message: it expects 8 bytes of Int");
  expect_part(told[1], "found 8 bytes of Float, expected 8 bytes of Int");
}

TEST(NcclTransportTest, TimeoutNamesPeerAndLabel) {
  EXPECT_NO_THROW(run_on_stand_in(
      {.timeout = milliseconds(30)},
      [](Transport& t, NcclStandIn& /*stand_in*/) { contract::timeout_names_peer_and_label(t); }));
}

TEST(NcclTransportTest, EveryPeerOfAStalledRankNamesItInTime) {
  EXPECT_NO_THROW(run_on_stand_in(
      {.ranks = 4, .timeout = milliseconds(100)},
      [](Transport& t, NcclStandIn& /*stand_in*/) { contract::peers_name_a_stalled_rank(t); }));
}

TEST(NcclTransportTest, AbortWakesEveryWaitingPeerWithTheSameError) {
  std::array<std::string, 3> told;
  const auto body = [&](Transport& t, NcclStandIn& /*stand_in*/) {
    if (t.rank().value == 2) {
      t.abort(5);
      return;
    }
    try {
      t.recv(at::empty({8}, at::kByte), Rank{2}, "never sent")->wait();
    } catch (const TransportError& error) {
      told.at(static_cast<std::size_t>(t.rank().value)) = error.text().what;
    }
  };
  EXPECT_NO_THROW(run_on_stand_in({.ranks = 3}, body));
  EXPECT_EQ(told[0], "rank 2 ended the job with exit code 5");
  EXPECT_EQ(told[1], told[0]);
}

TEST(NcclTransportTest, AnAsynchronousErrorCarriesNcclsTextAndVersionAndNamesThePeer) {
  const auto body = [](Transport& t, NcclStandIn& stand_in) {
    const at::Tensor tensor = at::zeros({1000}, at::kByte);
    const bool first = t.rank().value == 0;
    (first ? t.send(tensor, Rank{1}, "opens it") : t.recv(tensor, Rank{0}, "opens it"))->wait();
    barrier(t, "the channel is open");
    if (!first) {
      stand_in.break_links(Rank{1}, 6);  // ncclRemoteError
      t.recv(tensor, Rank{0}, "wave 2 batch 7")->wait();
    }
  };
  const ErrorText text = error_of({}, body);
  expect_part(text.what, "NCCL 2.27.5: ");
  expect_part(text.what, "ncclCommGetAsyncError");
  expect_part(text.what, "remote process exited: the stand-in's last words");
  expect_part(text.where, "rank 1 receives 'wave 2 batch 7' (1000 bytes) from rank 0");
}

TEST(NcclTransportTest, AFailureAbortsTheCommunicatorsSoThatThePeerNoticesBeforeItsTimeout) {
  std::string told;
  const auto body = [&](Transport& t, NcclStandIn& stand_in) {
    const at::Tensor tensor = at::zeros({1000}, at::kByte);
    const bool first = t.rank().value == 0;
    (first ? t.send(tensor, Rank{1}, "x") : t.recv(tensor, Rank{0}, "x"))->wait();
    try {
      barrier(t, "the channel is open");
      if (first) stand_in.break_links(Rank{0}, 2);
      (first ? t.send(tensor, Rank{1}, "y") : t.recv(tensor, Rank{0}, "z"))->wait();
    } catch (const TransportError& error) {
      if (!first) told = error.text().what;
    }
  };
  EXPECT_NO_THROW(run_on_stand_in({}, body));
  expect_part(told, "remote process exited");
}

TEST(NcclTransportTest, AfterAFailureEveryCallThrowsTheFirstError) {
  const auto body = [](Transport& t, NcclStandIn& /*stand_in*/) {
    if (t.rank().value == 1) return;
    const at::Tensor tensor = at::zeros({8}, at::kByte);
    EXPECT_THROW(t.recv(tensor, Rank{1}, "first")->wait(), TransportError);
    try {
      (void)t.send(tensor, Rank{1}, "second");
      ADD_FAILURE() << "a send after a failure";
    } catch (const TransportError& error) {
      expect_part(error.text().what, "'first'");
    }
  };
  EXPECT_NO_THROW(run_on_stand_in({.timeout = milliseconds(30)}, body));
}

TEST(NcclTransportTest, MessagesThatAreAllHereAreReceivedAsOneGroup) {
  int groups = 0;
  std::latch awaited(1);  // all receives are posted
  std::latch offered(1);  // all sends are
  const auto body = [&](Transport& t, NcclStandIn& stand_in) {
    constexpr int kMessages = 4;
    std::vector<std::unique_ptr<Pending>> work;
    std::vector<at::Tensor> tensors;
    const bool sends = t.rank().value == 0;
    if (sends) awaited.wait();
    for (int i = 0; i < kMessages; ++i) {
      tensors.push_back(at::full({100}, sends ? i : -1, at::kInt));
      work.push_back(sends ? t.send(tensors.back(), Rank{1}, "group")
                           : t.recv(tensors.back(), Rank{0}, "group"));
    }
    (sends ? offered : awaited).count_down();
    if (!sends) offered.wait();
    for (const auto& pending : work) pending->wait();
    for (int i = 0; i < kMessages; ++i) {
      require(tensors[static_cast<std::size_t>(i)].eq(i).all().item<bool>(),
              "the order of a group");
    }
    if (!sends) groups = stand_in.groups_of_several();
  };
  EXPECT_NO_THROW(run_on_stand_in({}, body));
  EXPECT_EQ(groups, 1);
}

TEST(NcclTransportTest, ADeviceThatCudaRefusesIsNamed) {
  NcclApi api = NcclStandIn::api();
  api.set_device = [](int device) { return device == 1 ? 101 : 0; };
  const ErrorText text = error_of({.api = api}, [](Transport&, NcclStandIn&) {});
  EXPECT_EQ(text.what, "CUDA: cudaSetDevice returned 101: invalid device ordinal");
  EXPECT_EQ(text.where, "GPU 1 of rank 1");
}

}  // namespace
}  // namespace lrq::dist
