#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

#include "dist/registry.h"
#include "launch/options.h"

namespace lrq::cli {

/// "0.1.0 (1a2b3c4), LibTorch 2.15.0+cu132"
[[nodiscard]] const char* version_text();

/// Where the tensors of a command are: on what --device says, or in host memory whatever it says.
enum class TensorsOf { kDevice, kHost };

/// What a command runs in: the log, the threads, the device, the transport.
class Session {
 public:
  /// Throws UsageError (device, transport, threads), TransportError.
  /// mpi: borrowed, must outlive the session.
  Session(const GlobalOptions& options, dist::MpiSession& mpi, TensorsOf tensors);

  [[nodiscard]] dist::Transport& transport() { return *transport_; }
  /// What this rank computes on.
  [[nodiscard]] at::Device device() const { return device_; }
  /// The most bytes of its GPU that this rank's tensors have taken; 0 on the CPU.
  [[nodiscard]] std::uint64_t peak_gpu_memory() const;
  [[nodiscard]] bool first_rank() const { return transport_->rank().value == 0; }
  /// --dtype, where `automatic` stands for "auto".
  [[nodiscard]] at::ScalarType dtype(at::ScalarType automatic) const;
  /// "auto" where nothing else decides: float32 on a CPU, bfloat16 on a GPU.
  [[nodiscard]] at::ScalarType usual_dtype() const;
  /// What a resume compares: threads, instruction_set, torch; on a GPU, device too.
  [[nodiscard]] std::map<std::string, std::string> machine() const;
  /// Write the result of a command where --json says; rank 0 only.
  void write_json(const std::string& text) const;
  /// What the process is to exit with where the command throws nothing; 0 unless it is said here.
  void end_with(int exit_code) { exit_code_ = exit_code; }
  [[nodiscard]] int exit_code() const { return exit_code_; }

 private:
  GlobalOptions options_;
  at::Device device_ = at::kCPU;
  std::string device_name_;  ///< of a GPU, as CUDA calls it
  std::unique_ptr<dist::Transport> transport_;
  int exit_code_ = 0;
};

/// Run `work` and turn what it throws into the exit code: the message is printed once with its
/// rank, then the other ranks are ended.  Returns the process's exit code.
int run_guarded(const GlobalOptions& options, TensorsOf tensors,
                const std::function<void(Session&)>& work);

/// Print the exception being handled, under `name`, and return its exit code.
int report_current_exception(const std::string& name);

/// The rank that the launcher gave this process, before MPI is up.
[[nodiscard]] int launcher_rank();

}  // namespace lrq::cli
