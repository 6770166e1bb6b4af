#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/dist/threads.h"
#include "tests/dist/transport_contract.h"

/// Transports that are wrong on purpose must fail the contract suite; else it proves nothing.

namespace lrq::dist {
namespace {

using Handle = std::unique_ptr<Pending>;

/// Passes everything on; the faults below override one thing each.
class Decorator : public Transport {
 public:
  explicit Decorator(Transport& inner) : inner_(inner) {}
  [[nodiscard]] Rank rank() const override { return inner_.rank(); }
  [[nodiscard]] int size() const override { return inner_.size(); }
  [[nodiscard]] std::string_view name() const override { return "broken"; }
  [[nodiscard]] Handle send(const at::Tensor& t, Rank to, std::string_view label) override {
    return inner_.send(t, to, label);
  }
  [[nodiscard]] Handle recv(const at::Tensor& into, Rank from, std::string_view label) override {
    return inner_.recv(into, from, label);
  }
  void abort(int exit_code) noexcept override { inner_.abort(exit_code); }
  [[nodiscard]] std::chrono::nanoseconds waited() const override { return inner_.waited(); }

 protected:
  Transport& inner_;
};

/// A Pending whose wait() runs a function.
class Deferred final : public Pending {
 public:
  explicit Deferred(std::function<void()> wait) : wait_(std::move(wait)) {}
  void wait() override { wait_(); }

 private:
  std::function<void()> wait_;
};

/// Says that a send is complete before the peer has taken it.
class EarlyRelease final : public Decorator {
 public:
  using Decorator::Decorator;
  Handle send(const at::Tensor& t, Rank to, std::string_view label) override {
    under_way_.push_back(inner_.send(t, to, label));
    return std::make_unique<Deferred>([] {});
  }

 private:
  std::vector<Handle> under_way_;
};

/// Delivers the second of two sends first.
class Reorders final : public Decorator {
 public:
  using Decorator::Decorator;
  Handle send(const at::Tensor& t, Rank to, std::string_view label) override {
    if (!held_) {
      held_ = [this, t, to, text = std::string(label)] {
        under_way_.push_back(inner_.send(t, to, text));
      };
      return std::make_unique<Deferred>([this] { release(); });
    }
    auto pending = inner_.send(t, to, label);
    release();
    return pending;
  }

 private:
  void release() {
    if (held_) std::exchange(held_, nullptr)();
  }
  std::function<void()> held_;
  std::vector<Handle> under_way_;
};

/// Says that a receive is complete though nothing has arrived.  Nothing ever does: a late arrival
/// would be a data race in the test itself.
class EmptyReceive final : public Decorator {
 public:
  using Decorator::Decorator;
  Handle recv(const at::Tensor& /*into*/, Rank /*from*/, std::string_view /*label*/) override {
    return std::make_unique<Deferred>([] {});
  }
};

// A fault may leave both ranks waiting, so the time-out is short.
constexpr std::chrono::milliseconds kShortTimeout{100};

template <typename Fault>
std::vector<std::string> failed_cases(std::chrono::milliseconds timeout = kShortTimeout) {
  std::vector<std::string> failed;
  for (const contract::Case& promise : contract::cases()) {
    if (std::string(promise.name) == "EverySize") continue;  // large, and finds nothing further
    try {
      run_as_threads(2, timeout, [&](Transport& t) {
        Fault broken(t);
        promise.body(broken);
      });
    } catch (const contract::Broken&) {
      failed.emplace_back(promise.name);
    } catch (const TransportError&) {
      failed.emplace_back(promise.name);
    }
  }
  return failed;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

TEST(ContractSuiteTest, FindsATransportThatReleasesTensorsTooEarly) {
  EXPECT_TRUE(contains(failed_cases<EarlyRelease>(), "TensorIsFreeAfterWait"));
}

TEST(ContractSuiteTest, FindsATransportThatDeliversOutOfOrder) {
  EXPECT_TRUE(contains(failed_cases<Reorders>(), "OrderPerPair"));
}

TEST(ContractSuiteTest, FindsATransportWhoseReceiveDoesNotWait) {
  const auto failed = failed_cases<EmptyReceive>();
  EXPECT_TRUE(contains(failed, "OrderPerPair"));
  EXPECT_TRUE(contains(failed, "WaitingIsMeasured"));
}

TEST(ContractSuiteTest, PassesTheSameTransportWithoutAFault) {
  EXPECT_TRUE(failed_cases<Decorator>(std::chrono::seconds(20)).empty());
}

}  // namespace
}  // namespace lrq::dist
