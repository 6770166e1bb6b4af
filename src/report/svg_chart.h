#pragma once

#include <string>
#include <vector>

namespace lrq::report {

/// One line of a chart.  Points whose y has no logarithm (zero, negative, not finite) are left out,
/// and the line is broken there.
struct Series {
  struct Point {
    double x = 0.0;
    double y = 0.0;
  };
  std::string name;
  std::string color;  ///< as CSS has it
  std::vector<Point> points;
  bool dashed = false;
};

/// Lines over whole numbers, with a logarithmic y axis.
struct Chart {
  std::string title;
  std::string x_name;
  std::string y_name;  ///< with its unit, or "no unit"
  std::vector<Series> series;
  bool legend = true;
};

/// Draw it as one <svg> element; every point tells its values when it is pointed at.
[[nodiscard]] std::string svg_of(const Chart& chart);

/// Values to mark on a logarithmic axis from low to high (0 < low <= high), within it: powers of
/// ten, with their double and fivefold where those are few; equal steps where no such lie in it.
[[nodiscard]] std::vector<double> log_ticks(double low, double high);

/// Values to mark on a linear axis from low to high (low <= high): about `wanted` multiples of 1, 2
/// or 5 times a power of ten.
[[nodiscard]] std::vector<double> linear_ticks(double low, double high, int wanted);

}  // namespace lrq::report
