#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "src/report/html.h"
#include "src/report/svg_chart.h"
#include "src/report/svg_gantt.h"

namespace lrq::report {
namespace {

using pipeline::Bar;
using pipeline::Op;

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

TEST(HtmlTest, NothingOfATextIsMarkup) {
  EXPECT_EQ(escaped("a<b>&\"c'"), "a&lt;b&gt;&amp;&quot;c&#39;");
  EXPECT_EQ(escaped("\x01\x7F\n\t"), "\xEF\xBF\xBD\xEF\xBF\xBD\n\t");
  EXPECT_EQ(escaped("\xFFz\xC3\xA9"), "\xEF\xBF\xBDz\xC3\xA9");
}

TEST(HtmlTest, NumbersThatAreNotFiniteAreADash) {
  EXPECT_EQ(shown(0.0123456), "0.01235");
  EXPECT_EQ(shown(std::numeric_limits<double>::quiet_NaN()), "-");
  EXPECT_EQ(fixed(std::numeric_limits<double>::infinity(), 1), "-");
  EXPECT_EQ(percent(0.0312), "3.1 %");
}

TEST(TicksTest, LieWithinTheAxisAtRoundNumbers) {
  EXPECT_EQ(linear_ticks(0.0, 10.0, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(linear_ticks(3.0, 3.0, 5), (std::vector<double>{3}));
  EXPECT_EQ(linear_ticks(1.5, 4.0, 3), (std::vector<double>{2, 3, 4}));
  const auto tens = log_ticks(0.5, 200.0);
  ASSERT_EQ(tens.size(), 3U);
  EXPECT_DOUBLE_EQ(tens[0], 1.0);
  EXPECT_DOUBLE_EQ(tens[2], 100.0);
  const auto finer = log_ticks(0.3, 6.0);
  ASSERT_EQ(finer.size(), 4U);  // 0.5 1 2 5
  EXPECT_DOUBLE_EQ(finer[0], 0.5);
  EXPECT_GE(log_ticks(0.44, 0.46).size(), 2U);
}

TEST(ChartTest, ALineIsBrokenWhereALossHasNoLogarithm) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string svg =
      svg_of(Chart{.title = "<t>",
                   .x_name = "block",
                   .y_name = "no unit",
                   .series = {{.name = "a&b",
                               .color = "red",
                               .points = {{0, 1.0}, {1, 2.0}, {2, nan}, {3, 0.0}, {4, 2.0}}}}});
  EXPECT_EQ(count(svg, "<circle"), 3);
  const std::size_t path = svg.find("<path");
  const std::string drawn = svg.substr(path, svg.find("/>", path) - path);
  EXPECT_EQ(count(drawn, "M"), 2) << drawn;
  EXPECT_EQ(count(drawn, "L"), 1) << drawn;
  EXPECT_TRUE(has(svg, "&lt;t&gt;")) << svg;
  EXPECT_TRUE(has(svg, "a&amp;b")) << svg;
  EXPECT_FALSE(has(svg, "nan")) << svg;
}

TEST(ChartTest, WithoutPointsItSaysSo) { EXPECT_TRUE(has(svg_of(Chart{}), "nothing to show yet")); }

/// A row is 924 wide and begins at 64: with 9.24 s, a second is 100.
TEST(GanttTest, BarsLieWhereTheirTimesAre) {
  const std::string svg = svg_of(Gantt{.bars = {{0, {Op::kTrain, 0}, 0.0, 1.0},
                                                {1, {Op::kTrain, 0}, 1.0, 3.0},
                                                {1, {Op::kCut, 0}, 3.0, 3.5},
                                                {1, {Op::kTrain, 1}, 8.24, 12.0},
                                                {1, {Op::kTrain, 2}, 12.0, 13.0}},
                                       .ranks = 3,
                                       .window = {0.0, 9.24}});
  EXPECT_TRUE(has(svg, R"(data-rank="0" data-step="0" x="64.00" y="8.0" width="100.00")")) << svg;
  EXPECT_TRUE(has(svg, R"(data-rank="1" data-step="0" x="164.00" y="30.0" width="200.00")")) << svg;
  EXPECT_TRUE(has(svg, R"(class="cut" data-rank="1" data-step="0" x="364.00")")) << svg;
  EXPECT_TRUE(has(svg, R"(data-step="1" x="888.00" y="30.0" width="100.00")")) << "cut off\n"
                                                                               << svg;
  EXPECT_FALSE(has(svg, R"(data-step="2")")) << "outside\n" << svg;
  EXPECT_EQ(count(svg, "class=\"wait\""), 3) << "a row for every rank";
  EXPECT_TRUE(has(svg, "rank 1, step 0: 1.000 to 3.000 s")) << svg;
}

/// Two ranks, a second a step, the second rank one behind.
std::vector<Bar> two_ranks(int steps) {
  std::vector<Bar> bars;
  for (int step = 0; step < steps; ++step) {
    bars.push_back({0, {Op::kTrain, step}, step + 0.0, step + 1.0});
    bars.push_back({1, {Op::kTrain, step}, step + 1.0, step + 2.0});
  }
  return bars;
}

TEST(GanttTest, LongWavesAreShownInTwoParts) {
  EXPECT_EQ(readable_windows(two_ranks(6), 7.0, 3), (std::vector<Window>{{0.0, 7.0}}));
  // 20 steps: until rank 0 has done step 2, and from where rank 1 begins step 17.
  EXPECT_EQ(readable_windows(two_ranks(20), 21.0, 3),
            (std::vector<Window>{{0.0, 3.0}, {18.0, 21.0}}));
}

}  // namespace
}  // namespace lrq::report
