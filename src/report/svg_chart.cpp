#include "src/report/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "src/base/text.h"
#include "src/report/html.h"

namespace lrq::report {
namespace {

constexpr double kWidth = 620.0;
constexpr double kHeight = 300.0;
constexpr double kLeft = 70.0;
constexpr double kRight = 12.0;
constexpr double kTop = 44.0;
constexpr double kBottom = 44.0;
constexpr double kRounding = 1e-9;  // a tick at the end of the axis belongs to it

bool drawn(const Series::Point& point) { return std::isfinite(point.y) && point.y > 0.0; }

std::string text_at(double x, double y, const std::string& anchor, const std::string& text) {
  return concat("<text x=\"", fixed(x, 1), "\" y=\"", fixed(y, 1), "\" text-anchor=\"", anchor,
                "\">", escaped(text), "</text>\n");
}

std::string line(const char* kind, double x1, double y1, double x2, double y2) {
  return concat("<line class=\"", kind, "\" x1=\"", fixed(x1, 1), "\" y1=\"", fixed(y1, 1),
                "\" x2=\"", fixed(x2, 1), "\" y2=\"", fixed(y2, 1), "\"/>\n");
}

/// What the axes span.
struct Frame {
  double x_low = 0.0;
  double x_high = 0.0;
  double y_low = 0.0;
  double y_high = 0.0;
  [[nodiscard]] double x(double value) const {
    const double span = x_high > x_low ? (value - x_low) / (x_high - x_low) : 0.5;
    return kLeft + span * (kWidth - kLeft - kRight);
  }
  [[nodiscard]] double y(double value) const {
    const double span = std::log(value / y_low) / std::log(y_high / y_low);
    return kHeight - kBottom - span * (kHeight - kTop - kBottom);
  }
};

std::optional<Frame> frame_of(const Chart& chart) {
  std::optional<Frame> frame;
  for (const Series& series : chart.series) {
    for (const Series::Point& point : series.points) {
      if (!drawn(point)) continue;
      if (!frame) {
        frame = {.x_low = point.x, .x_high = point.x, .y_low = point.y, .y_high = point.y};
      }
      frame->x_low = std::min(frame->x_low, point.x);
      frame->x_high = std::max(frame->x_high, point.x);
      frame->y_low = std::min(frame->y_low, point.y);
      frame->y_high = std::max(frame->y_high, point.y);
    }
  }
  if (frame) {
    const double margin = std::max(1.02, std::pow(frame->y_high / frame->y_low, 0.05));
    frame->y_low /= margin;
    frame->y_high *= margin;
  }
  return frame;
}

std::string axes(const Chart& chart, const Frame& frame) {
  std::string out;
  const double bottom = kHeight - kBottom;
  for (const double tick : log_ticks(frame.y_low, frame.y_high)) {
    out += line("grid", kLeft, frame.y(tick), kWidth - kRight, frame.y(tick));
    out += text_at(kLeft - 6.0, frame.y(tick) + 4.0, "end", shown(tick, 3));
  }
  for (const double tick : linear_ticks(frame.x_low, frame.x_high, 10)) {
    if (tick != std::floor(tick)) continue;  // blocks and epochs are whole
    out += line("grid", frame.x(tick), bottom, frame.x(tick), bottom + 4.0);
    out += text_at(frame.x(tick), bottom + 17.0, "middle", shown(tick, 6));
  }
  out += line("axis", kLeft, bottom, kWidth - kRight, bottom);
  out += line("axis", kLeft, kTop, kLeft, bottom);
  out += text_at((kLeft + kWidth - kRight) / 2.0, kHeight - 8.0, "middle", chart.x_name);
  return out;
}

std::string curve(const Chart& chart, const Series& series, const Frame& frame) {
  std::string paths;
  std::string circles;
  bool pen_down = false;
  for (const Series::Point& point : series.points) {
    if (!drawn(point)) {
      pen_down = false;
      continue;
    }
    const std::string x = fixed(frame.x(point.x), 1);
    const std::string y = fixed(frame.y(point.y), 1);
    paths += concat(paths.empty() ? "" : " ", pen_down ? "L" : "M", x, " ", y);
    pen_down = true;
    circles += concat("<circle cx=\"", x, "\" cy=\"", y, "\" r=\"2.5\" fill=\"", series.color,
                      "\"><title>", escaped(series.name), ", ", escaped(chart.x_name), " ",
                      shown(point.x, 6), ": ", shown(point.y, 5), "</title></circle>\n");
  }
  if (paths.empty()) return "";
  return concat("<path class=\"curve\" stroke=\"", series.color, "\"",
                series.dashed ? " stroke-dasharray=\"5 4\"" : "", " d=\"", paths, "\"/>\n",
                circles);
}

std::string legend(const Chart& chart) {
  std::string out;
  double x = kLeft + 8.0;
  for (const Series& series : chart.series) {
    out += concat("<line class=\"curve\" stroke=\"", series.color, "\"",
                  series.dashed ? " stroke-dasharray=\"5 4\"" : "", " x1=\"", fixed(x, 1),
                  "\" y1=\"32\" x2=\"", fixed(x + 22.0, 1), "\" y2=\"32\"/>\n");
    out += text_at(x + 27.0, 36.0, "start", series.name);
    x += 45.0 + 6.5 * static_cast<double>(series.name.size());
  }
  return out;
}

}  // namespace

std::vector<double> log_ticks(double low, double high) {
  std::vector<double> tens;
  std::vector<double> finer;
  const int first = static_cast<int>(std::floor(std::log10(low)));
  const int last = static_cast<int>(std::ceil(std::log10(high)));
  for (int exponent = first; exponent <= last; ++exponent) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double tick = factor * std::pow(10.0, exponent);
      if (tick < low * (1.0 - kRounding) || tick > high * (1.0 + kRounding)) continue;
      finer.push_back(tick);
      if (factor == 1.0) tens.push_back(tick);
    }
  }
  if (tens.size() >= 3) return tens;
  if (finer.size() >= 2) return finer;
  return linear_ticks(low, high, 4);
}

std::vector<double> linear_ticks(double low, double high, int wanted) {
  if (!(high - low > kRounding * std::abs(high))) return {low};
  const double rough = (high - low) / wanted;
  const double ten = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10.0 * ten;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (factor * ten >= rough * (1.0 - kRounding)) step = factor * ten;
  }
  std::vector<double> ticks;
  const double first = std::ceil(low / step - kRounding);
  for (double i = first; i * step <= high + step * kRounding; i += 1.0) {
    ticks.push_back(i * step + 0.0);  // not -0
  }
  return ticks;
}

std::string svg_of(const Chart& chart) {
  std::string out = concat("<svg class=\"chart\" viewBox=\"0 0 ", kWidth, " ", kHeight,
                           "\" width=\"", kWidth, "\" height=\"", kHeight, "\" role=\"img\">\n");
  out += text_at(kLeft, 16.0, "start", concat(chart.title, " [", chart.y_name, "]"));
  const auto frame = frame_of(chart);
  if (!frame) {
    out += text_at(kWidth / 2.0, kHeight / 2.0, "middle", "nothing to show yet");
  } else {
    out += axes(chart, *frame);
    for (const Series& series : chart.series) out += curve(chart, series, *frame);
    if (chart.legend) out += legend(chart);
  }
  return out + "</svg>\n";
}

}  // namespace lrq::report
