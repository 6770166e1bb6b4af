#pragma once

#include <stdexcept>
#include <string>

namespace lrq {

/// What a user is told: what happened (with the value found and the value expected), where, and
/// the next thing to type or check.  Never only "failed" or "invalid".
struct ErrorText {
  std::string what;
  std::string where = {};
  std::string fix = {};
};

/// Carry one user-visible failure up to `main`, which prints it once and exits with exit_code().
class Error : public std::runtime_error {
 public:
  Error(ErrorText text, int exit_code);
  [[nodiscard]] const ErrorText& text() const noexcept { return text_; }
  [[nodiscard]] int exit_code() const noexcept { return exit_code_; }

 private:
  ErrorText text_;
  int exit_code_;
};

inline constexpr int kExitUsage = 2;
inline constexpr int kExitData = 3;
inline constexpr int kExitTransport = 4;
inline constexpr int kExitNumeric = 5;
inline constexpr int kExitBug = 70;
inline constexpr int kExitStopped = 75;

/// An option or a recipe asks for something that cannot be.
class UsageError : public Error {
 public:
  explicit UsageError(ErrorText text) : Error(std::move(text), kExitUsage) {}
};

/// A file, a checkpoint or a shard is not what it should be.
class DataError : public Error {
 public:
  explicit DataError(ErrorText text) : Error(std::move(text), kExitData) {}
};

/// A peer or the network failed; after one, only Transport::abort() is allowed.
class TransportError : public Error {
 public:
  explicit TransportError(ErrorText text) : Error(std::move(text), kExitTransport) {}
};

/// A loss is not finite and the recipe says to stop.
class NumericError : public Error {
 public:
  explicit NumericError(ErrorText text) : Error(std::move(text), kExitNumeric) {}
};

/// A precondition of our own code does not hold.
class BugError : public Error {
 public:
  explicit BugError(ErrorText text) : Error(std::move(text), kExitBug) {}
};

/// The message as the user reads it: three lines, the empty ones left out.  who: "lrq-dist: rank
/// 3".
[[nodiscard]] std::string format_error(const ErrorText& text, const std::string& who);

}  // namespace lrq
