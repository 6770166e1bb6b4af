#include "src/pipeline/run_log.h"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/base/log.h"
#include "tests/fakes/scratch_folder.h"

namespace lrq::pipeline {
namespace {

using std::chrono::milliseconds;

TEST(RunLogTest, AStageWaitsAllTheTimeOfTheWaveInWhichItDoesNotWork) {
  start_log(Rank{0}, LogLevel::kOff);
  const ScratchFolder scratch;
  const auto files = io::make_posix_file_system();
  RunLog log(*files, scratch.path(), RunLog::Speaker::kYes);
  const LearnShape shape{
      .ranks = 5, .stages = 2, .replicas = 2, .first_step = 3, .steps = 9, .cut_every = 4};
  // Rank 0 ends the wave after 10 s and worked 9; stage 1 worked 6 of the 8 s that it took part.
  log.waited(2, shape,
             {{.seconds = 10.0, .waited = 1.0, .cuts = 0.5},
              {.seconds = 8.0, .waited = 2.0, .cuts = 0.25}});
  EXPECT_EQ(
      files->read(scratch.path() / "metrics.jsonl"),
      R"({"event":"waited","wave":2,"ranks":5,"replicas":2,"first_step":3,"steps":9,)"
      R"("cut_every":4,"turn":1,"seconds":10.0,"waited_seconds":[1.0,4.0],"cut_seconds":[0.5,0.25]})"
      "\n");
}

/// A transport that has waited as long as the test says.
class WaitingTransport final : public dist::Transport {
 public:
  [[nodiscard]] Rank rank() const override { return Rank{0}; }
  [[nodiscard]] int size() const override { return 2; }
  [[nodiscard]] std::string_view name() const override { return "waiting"; }
  [[nodiscard]] std::unique_ptr<dist::Pending> send(const at::Tensor& /*t*/, Rank /*to*/,
                                                    std::string_view /*label*/) override {
    throw BugError({.what = "nothing is sent in this test"});
  }
  [[nodiscard]] std::unique_ptr<dist::Pending> recv(const at::Tensor& /*into*/, Rank /*from*/,
                                                    std::string_view /*label*/) override {
    throw BugError({.what = "nothing is received in this test"});
  }
  void abort(int /*exit_code*/) noexcept override {}
  [[nodiscard]] std::chrono::nanoseconds waited() const override { return waited_; }
  void wait(milliseconds time) { waited_ += time; }

 private:
  std::chrono::nanoseconds waited_{0};
};

TEST(StageClockTest, CountsWaitingSinceItBeganAndNotThatOfReplicasInAStep) {
  WaitingTransport transport;
  transport.wait(milliseconds(5000));  // in earlier waves
  StageClock clock(transport);
  transport.wait(milliseconds(250));
  const double seconds = clock.step([&] { transport.wait(milliseconds(1000)); });
  EXPECT_GE(seconds, 0.0);
  clock.cut([] { std::this_thread::sleep_for(milliseconds(2)); });
  const StageTimes times = clock.times();
  EXPECT_DOUBLE_EQ(times.waited, 0.25);
  EXPECT_GE(times.cuts, 0.002);
  EXPECT_GE(times.seconds, times.cuts);
}

}  // namespace
}  // namespace lrq::pipeline
