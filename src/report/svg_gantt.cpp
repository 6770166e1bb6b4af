#include "src/report/svg_gantt.h"

#include <algorithm>

#include "src/base/text.h"
#include "src/report/html.h"
#include "src/report/svg_chart.h"

namespace lrq::report {
namespace {

using pipeline::Bar;
using pipeline::Op;

class GanttDrawing {
 public:
  static constexpr double kWidth = 1000.0;
  static constexpr double kLeft = 64.0;
  static constexpr double kRight = 12.0;
  static constexpr double kTop = 8.0;
  static constexpr double kBottom = 40.0;
  static constexpr double kLetter = 6.5;  // width of a digit
  static constexpr int kManyRanks = 24;   // rows are lower from here on

  explicit GanttDrawing(const Gantt& gantt)
      : gantt_(gantt),
        row_(gantt.ranks > kManyRanks ? 12.0 : 22.0),
        height_(kTop + row_ * gantt.ranks + kBottom) {}

  [[nodiscard]] std::string svg() const {
    std::string out = concat("<svg class=\"gantt\" viewBox=\"0 0 ", kWidth, " ", height_,
                             "\" width=\"", kWidth, "\" height=\"", height_, "\" role=\"img\">\n");
    for (int rank = 0; rank < gantt_.ranks; ++rank) {
      out += concat("<text x=\"", kLeft - 6.0, "\" y=\"", fixed(top(rank) + row_ * 0.7, 1),
                    "\" text-anchor=\"end\">rank ", rank, "</text>\n<rect class=\"wait\" x=\"",
                    kLeft, "\" y=\"", fixed(top(rank), 1), "\" width=\"", kWidth - kLeft - kRight,
                    "\" height=\"", row_ - 2.0, "\"/>\n");
    }
    for (const Bar& bar : gantt_.bars) out += drawn(bar);
    return out + time_axis() + "</svg>\n";
  }

 private:
  [[nodiscard]] double top(int rank) const { return kTop + row_ * rank; }
  [[nodiscard]] double x(double seconds) const {
    const Window& window = gantt_.window;
    const double span = (seconds - window.begin) / (window.end - window.begin);
    return kLeft + std::clamp(span, 0.0, 1.0) * (kWidth - kLeft - kRight);
  }

  [[nodiscard]] std::string drawn(const Bar& bar) const {
    if (bar.end <= bar.begin) return "";  // a cut whose time is not known
    if (bar.end <= gantt_.window.begin || bar.begin >= gantt_.window.end) return "";
    const bool cut = bar.action.op == Op::kCut;
    const double width = std::max(0.5, x(bar.end) - x(bar.begin));
    const std::string step = concat(bar.action.index);
    std::string out =
        concat("<rect class=\"", cut ? "cut" : "step", "\" data-rank=\"", bar.rank,
               "\" data-step=\"", step, "\" x=\"", fixed(x(bar.begin), 2), "\" y=\"",
               fixed(top(bar.rank), 1), "\" width=\"", fixed(width, 2), "\" height=\"", row_ - 2.0,
               "\"><title>rank ", bar.rank, cut ? ", cut after step " : ", step ", step, ": ",
               fixed(bar.begin, 3), " to ", fixed(bar.end, 3), " s</title></rect>\n");
    if (!cut && row_ > 20.0 && width > kLetter * static_cast<double>(step.size()) + 4.0) {
      out += concat("<text class=\"inside\" x=\"", fixed(x(bar.begin) + width / 2.0, 1), "\" y=\"",
                    fixed(top(bar.rank) + row_ * 0.66, 1), "\" text-anchor=\"middle\">", step,
                    "</text>\n");
    }
    return out;
  }

  [[nodiscard]] std::string time_axis() const {
    const double bottom = top(gantt_.ranks);
    std::string out;
    for (const double tick : linear_ticks(gantt_.window.begin, gantt_.window.end, 10)) {
      const std::string at = fixed(x(tick), 1);
      out += concat("<line class=\"axis\" x1=\"", at, "\" y1=\"", bottom, "\" x2=\"", at,
                    "\" y2=\"", bottom + 4.0, "\"/>\n<text x=\"", at, "\" y=\"", bottom + 17.0,
                    "\" text-anchor=\"middle\">", shown(tick, 6), "</text>\n");
    }
    return out + concat("<text x=\"", kLeft, "\" y=\"", bottom + 33.0,
                        "\" text-anchor=\"start\">simulated seconds of the wave</text>\n");
  }

  const Gantt& gantt_;
  double row_;
  double height_;
};

}  // namespace

std::vector<Window> readable_windows(const std::vector<Bar>& bars, double seconds,
                                     std::int64_t steps) {
  std::vector<Bar> trained;
  for (const Bar& bar : bars) {
    if (bar.action.op == Op::kTrain) trained.push_back(bar);
  }
  if (trained.empty()) return {{0.0, seconds}};
  const auto by_step = [](const Bar& a, const Bar& b) { return a.action.index < b.action.index; };
  const auto [first, last] = std::minmax_element(trained.begin(), trained.end(), by_step);
  const std::int64_t first_step = first->action.index;
  const std::int64_t last_step = last->action.index;
  if (last_step - first_step + 1 <= 2 * steps) return {{0.0, seconds}};
  Window start{0.0, seconds};
  Window finish{0.0, seconds};
  for (const Bar& bar : trained) {
    if (bar.action.index == first_step + steps - 1) start.end = std::min(start.end, bar.end);
    if (bar.action.index == last_step - steps + 1) finish.begin = std::max(finish.begin, bar.begin);
  }
  return {start, finish};
}

std::string svg_of(const Gantt& gantt) { return GanttDrawing(gantt).svg(); }

}  // namespace lrq::report
