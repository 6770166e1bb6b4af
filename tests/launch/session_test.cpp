#include "launch/session.h"

#include <functional>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "src/base/error.h"

namespace lrq::cli {
namespace {

/// The exit code for what `work` throws, and what is told.
struct Told {
  int code = 0;
  std::string text;
};
Told told(const std::function<void()>& work) {
  testing::internal::CaptureStderr();
  int code = 0;
  try {
    work();
  } catch (...) {
    code = report_current_exception("lrq-dist: rank 3");
  }
  return {.code = code, .text = testing::internal::GetCapturedStderr()};
}

TEST(ReportCurrentExceptionTest, MissingMemoryIsNoBugAndWhatHelpsIsNamed) {
  const auto no_thread = [] {
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
  };
  const auto too_large = [] {
    (void)at::empty({std::int64_t{1} << 52}, at::device(at::kCPU).dtype(at::kByte));
  };
  for (const std::function<void()>& work :
       {std::function<void()>(no_thread), std::function<void()>(too_large),
        std::function<void()>([] { throw std::bad_alloc(); })}) {
    const Told found = told(work);
    EXPECT_EQ(found.code, kExitData) << found.text;
    // Not at the beginning: a sanitizer says there what it could not allocate.
    EXPECT_NE(found.text.find("lrq-dist: rank 3: out of memory"), std::string::npos) << found.text;
    EXPECT_NE(found.text.find("--resident-blocks"), std::string::npos) << found.text;
  }
}

TEST(ReportCurrentExceptionTest, WhatNobodyExpectsIsABug) {
  EXPECT_EQ(told([] { throw std::runtime_error("x"); }).code, kExitBug);
  EXPECT_EQ(told([] { throw std::system_error(std::make_error_code(std::errc::io_error)); }).code,
            kExitBug);
  const Told shapes = told([] {
    const auto floats = at::device(at::kCPU).dtype(at::kFloat);
    (void)at::add(at::ones({2}, floats), at::ones({3}, floats));
  });
  EXPECT_EQ(shapes.code, kExitBug);
  EXPECT_NE(shapes.text.find("LibTorch: "), std::string::npos) << shapes.text;
}

}  // namespace
}  // namespace lrq::cli
