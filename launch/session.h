#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

#include "dist/registry.h"
#include "launch/options.h"

namespace lrq::cli {

/// "0.1.0 (1a2b3c4), LibTorch 2.15.0+cu132"
[[nodiscard]] const char* version_text();

/// What `main` makes before a command runs: MPI, the log, the threads, the transport.
class Session {
 public:
  /// Throws UsageError (device, transport, threads), TransportError.
  explicit Session(const GlobalOptions& options);

  [[nodiscard]] dist::Transport& transport() { return *transport_; }
  [[nodiscard]] bool first_rank() const { return transport_->rank().value == 0; }
  /// --dtype, where `automatic` stands for "auto".
  [[nodiscard]] at::ScalarType dtype(at::ScalarType automatic) const;
  /// What a resume compares: threads, cpu, torch.
  [[nodiscard]] std::map<std::string, std::string> machine() const;
  /// Write the result of a command where --json says; rank 0 only.
  void write_json(const std::string& text) const;

 private:
  GlobalOptions options_;
  dist::MpiSession mpi_;
  std::unique_ptr<dist::Transport> transport_;
};

/// Run `work` and turn what it throws into the exit code: the message is printed once with its
/// rank, then the other ranks are ended.  Returns the process's exit code.
int run_guarded(const GlobalOptions& options, const std::function<void(Session&)>& work);

/// The rank that the launcher gave this process, before MPI is up.
[[nodiscard]] int launcher_rank();

}  // namespace lrq::cli
