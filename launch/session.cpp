#include "launch/session.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <new>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/util/Exception.h>

#include "dist/gpu.h"
#include "dist/nccl_api.h"
#include "io/file_system.h"
#include "launch/parsed_values.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/process.h"
#include "src/base/text.h"

namespace lrq::cli {
namespace {

/// What the CPU does anyway: the same bits whenever the same work is done, and sums of products in
/// float32.  An operation of LibTorch that has no such form on a GPU throws instead of drawing
/// lots.
void make_gpu_reproducible() {
  // cuBLAS looks for it when it starts; without it LibTorch refuses products.
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/1);
  at::Context& torch = at::globalContext();
  torch.setDeterministicAlgorithms(true, /*warn_only=*/false);
  torch.setDeterministicFillUninitializedMemory(false);  // for debugging, and slow
  torch.setDeterministicCuDNN(true);
  torch.setBenchmarkCuDNN(false);
  torch.setFloat32MatmulPrecision("highest");
  torch.setAllowBF16ReductionCuBLAS(false);
}

/// --gpu-memory in bytes; 0 where it is not given.
std::size_t gpu_memory_of(const GlobalOptions& options, bool on_gpu) {
  if (options.gpu_memory.empty()) return 0;
  if (!on_gpu) {
    throw UsageError({.what = "a limit of GPU memory, and this command computes on the CPU",
                      .where = "option --gpu-memory",
                      .fix = "leave it out, or use --device cuda with calibrate or eval"});
  }
  return static_cast<std::size_t>(bytes_of(options.gpu_memory, "option --gpu-memory"));
}

ErrorText bug(const std::string& what) {
  return {.what = what, .fix = "this is a bug of lrq-dist: please report it with the command line"};
}

ErrorText missing_memory(const std::string& what) {
  return {.what = concat("out of memory", what),
          .where =
              concat("this process, which has had ", format_bytes(peak_memory_bytes()), " at most"),
          .fix =
              "more ranks (fewer blocks on each), --resident-blocks 1, --targets disk, a narrower "
              "--wave or a shorter --seqlen; lrq-dist plan tells what fits"};
}

/// Of LibTorch's allocator for the CPU, whose error has no type of its own.
bool is_missing_memory(const c10::Error& error) {
  return std::string_view(error.what_without_backtrace()).find("can't allocate memory") !=
         std::string_view::npos;
}
bool is_missing_memory(const std::system_error& error) {
  return error.code() == std::errc::not_enough_memory ||
         error.code() == std::errc::resource_unavailable_try_again;  // a thread's stack
}

/// The message of the exception that is being handled, and the exit code.
std::pair<ErrorText, int> told_exception() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.text(), error.exit_code()};
  } catch (const std::bad_alloc&) {
    return {missing_memory(""), kExitData};
  } catch (const c10::OutOfMemoryError& error) {
    return {missing_memory(concat(" of the GPU: ", error.what_without_backtrace())), kExitData};
  } catch (const c10::Error& error) {
    const std::string what = concat("LibTorch: ", error.what_without_backtrace());
    if (is_missing_memory(error)) return {missing_memory(concat(": ", what)), kExitData};
    return {bug(what), kExitBug};
  } catch (const std::system_error& error) {
    if (!is_missing_memory(error)) return {bug(error.what()), kExitBug};
    return {missing_memory(concat(", or of threads: ", error.what())), kExitData};
  } catch (const std::exception& error) {
    return {bug(error.what()), kExitBug};
  }
}

}  // namespace

int report_current_exception(const std::string& name) {
  const auto [text, code] = told_exception();
  std::fputs(format_error(text, name).c_str(), stderr);
  std::fflush(stderr);
  return code;
}

int launcher_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (const char* value = std::getenv(name)) return std::atoi(value);
  }
  return 0;
}

Session::Session(const GlobalOptions& options, dist::MpiSession& mpi, TensorsOf tensors)
    : options_(options) {
  start_log(mpi.rank(), parse_log_level(options.log_level));
  const auto api = dist::linked_nccl();
  const std::optional<int> gpu =
      dist::choose_device(tensors == TensorsOf::kDevice ? options.device : "cpu", api,
                          [](const char* name) -> const char* { return std::getenv(name); });
  const auto folder = std::filesystem::path(options.json).parent_path();
  if (!folder.empty() && !std::filesystem::is_directory(folder)) {
    throw UsageError({.what = concat("there is no folder ", folder.string()),
                      .where = "option --json",
                      .fix = "make the folder, or name another file"});
  }
  at::set_num_threads(options.threads);
  at::set_num_interop_threads(1);
  const std::size_t most = gpu_memory_of(options, gpu.has_value());
  if (gpu) {
    dist::use_gpu(*api, *gpu, most);
    make_gpu_reproducible();
    device_ = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(*gpu));
    device_name_ = dist::gpu_name(*api, *gpu);
    log_event(LogLevel::kInfo, "device", concat("gpu=", *gpu, " name=\"", device_name_, '"'));
  }
  transport_ = dist::make_transport(
      {.name = options.transport,
       .timeout = std::chrono::milliseconds(static_cast<std::int64_t>(options.timeout_s * 1e3)),
       .session = &mpi,
       .gpu = gpu});
}

std::uint64_t Session::peak_gpu_memory() const {
  return device_.is_cpu() ? 0 : dist::peak_gpu_memory(*dist::linked_nccl(), device_.index());
}

at::ScalarType Session::dtype(at::ScalarType automatic) const {
  if (options_.dtype == "float32") return at::kFloat;
  if (options_.dtype == "bfloat16") return at::kBFloat16;
  return automatic;
}

at::ScalarType Session::usual_dtype() const {
  return dtype(device_.is_cpu() ? at::kFloat : at::kBFloat16);
}

std::map<std::string, std::string> Session::machine() const {
  const std::string version = version_text();
  std::map<std::string, std::string> machine = {
      {"threads", concat(options_.threads)},
      {"instruction_set", concat(at::get_cpu_capability(), ", ", cpu_vendor())},
      {"torch", version.substr(version.find("LibTorch"))}};
  if (!device_.is_cpu()) machine["device"] = device_name_;
  return machine;
}

void Session::write_json(const std::string& text) const {
  if (options_.json.empty() || !first_rank()) return;
  const auto files = io::make_posix_file_system();
  io::write_atomically(*files, options_.json, text + "\n");
}

namespace {

constexpr std::chrono::milliseconds kFirstRankTells{500};

}  // namespace

int run_guarded(const GlobalOptions& options, TensorsOf tensors,
                const std::function<void(Session&)>& work) {
  std::unique_ptr<dist::MpiSession> mpi;
  try {
    mpi = std::make_unique<dist::MpiSession>();
    Session session(options, *mpi, tensors);
    work(session);
    return session.exit_code();
  } catch (...) {
    const int rank = mpi ? mpi->rank().value : launcher_rank();
    const bool alone = mpi && mpi->size() == 1;
    // What every rank finds by itself, rank 0 tells: it ends the others while they wait here.
    if (rank > 0) std::this_thread::sleep_for(kFirstRankTells);
    const int code = report_current_exception(alone ? "lrq-dist" : concat("lrq-dist: rank ", rank));
    // The other ranks may wait for this one, or not know yet: end them all with the same code.
    if (mpi) mpi->abort(code);
    return code;
  }
}

}  // namespace lrq::cli
