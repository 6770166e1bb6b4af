#pragma once

#include "dist/transport.h"

namespace lrq::dist {

/// A run of one rank: there is nobody to talk to.
/// send and recv throw BugError; abort() does nothing, as `main` returns the exit code.
class SelfTransport final : public Transport {
 public:
  [[nodiscard]] Rank rank() const override { return Rank{0}; }
  [[nodiscard]] int size() const override { return 1; }
  [[nodiscard]] std::string_view name() const override { return "self"; }
  [[nodiscard]] std::unique_ptr<Pending> send(const at::Tensor& t, Rank to,
                                              std::string_view label) override;
  [[nodiscard]] std::unique_ptr<Pending> recv(const at::Tensor& into, Rank from,
                                              std::string_view label) override;
  void abort(int /*exit_code*/) noexcept override {}
  [[nodiscard]] std::chrono::nanoseconds waited() const override { return {}; }
};

}  // namespace lrq::dist
