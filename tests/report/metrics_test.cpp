#include "src/report/metrics.h"

#include <cmath>
#include <string>

#include <gtest/gtest.h>

namespace lrq::report {
namespace {

std::string epoch_line(int block, int epoch, const std::string& loss) {
  return R"({"event":"epoch","wave":0,"block":)" + std::to_string(block) + R"(,"epoch":)" +
         std::to_string(epoch) + R"(,"loss":)" + loss + R"(,"mse":1,"nlc":2,"masked":0,)" +
         R"("stopped":false,"seconds":3.5,"steps":7})" + "\n";
}

constexpr const char* kWaited =
    R"({"event":"waited","wave":1,"ranks":3,"replicas":1,"first_step":2,"steps":8,"cut_every":4,)"
    R"("turn":1,)"
    R"("seconds":2.5,"waited_seconds":[0.5,0.25],"cut_seconds":[0,0]})"
    "\n";

TEST(MetricsTest, OfAStepDoneAgainTheLastLineCounts) {
  const Metrics found =
      read_metrics(epoch_line(1, 1, "0.5") + epoch_line(1, 2, "0.4") + epoch_line(1, 1, "0.25"), 4);
  ASSERT_EQ(found.epochs.size(), 1U);
  ASSERT_EQ(found.epochs.at(1).size(), 2U);
  EXPECT_EQ(found.epochs.at(1).at(1).loss, 0.25);
  EXPECT_EQ(found.epochs.at(1).at(2).loss, 0.4);
  EXPECT_EQ(found.epochs.at(1).at(2).seconds, 3.5);
  EXPECT_EQ(found.epochs.at(1).at(2).steps, 7);
  EXPECT_EQ(found.left_out, 0);
}

TEST(MetricsTest, ALossThatIsNotFiniteIsUnknown) {
  const Metrics found = read_metrics(epoch_line(0, 1, "null"), 1);
  EXPECT_TRUE(std::isnan(found.epochs.at(0).at(1).loss));
}

TEST(MetricsTest, ALineBeingWrittenIsNoneAndATornOneIsCounted) {
  const std::string whole = epoch_line(0, 1, "0.5");
  EXPECT_EQ(read_metrics(whole + R"({"event":"epo)", 1).left_out, 0);
  const Metrics found = read_metrics(R"({"event":"epo)" + ("\n" + whole), 1);
  EXPECT_EQ(found.left_out, 1);
  EXPECT_EQ(found.epochs.size(), 1U);
}

TEST(MetricsTest, LeavesOutWhatIsNotOurs) {
  for (const std::string& line :
       {epoch_line(4, 1, "0.5"), epoch_line(-1, 1, "0.5"), epoch_line(0, 0, "0.5"),
        epoch_line(0, 1, "\"<b>\""), std::string("[1]\n"), std::string("{}\n"),
        std::string("{\"event\":3}\n"), std::string("{\"event\":\"other\"}\n"),
        std::string("{\"event\":\"epoch\",\"block\":1.5}\n")}) {
    const Metrics found = read_metrics(line, 4);
    EXPECT_EQ(found.left_out, 1) << line;
    EXPECT_TRUE(found.epochs.empty()) << line;
  }
}

TEST(MetricsTest, AWaveHasAnEntryForEachStage) {
  const Metrics found = read_metrics(kWaited, 4);
  ASSERT_EQ(found.waves.size(), 1U);
  const WaveRecord& wave = found.waves.at(1);
  EXPECT_EQ(wave.ranks, 3);
  EXPECT_EQ(wave.first_step, 2);
  EXPECT_EQ(wave.steps, 8);
  EXPECT_EQ(wave.waited, (std::vector<double>{0.5, 0.25}));
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"[0,0]", "[0]"},                          // a stage without its cuts
           {"\"ranks\":3", "\"ranks\":1"},            // more stages than ranks
           {"\"first_step\":2", "\"first_step\":8"},  // nothing was done
           {"\"seconds\":2.5", "\"seconds\":0"},      // no share of nothing
           {"[0.5,0.25]", "[-0.5,0.25]"}}) {
    std::string line = kWaited;
    line.replace(line.find(from), from.size(), to);
    EXPECT_EQ(read_metrics(line, 4).left_out, 1) << line;
  }
}

}  // namespace
}  // namespace lrq::report
