#include "src/pipeline/machine.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::pipeline {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

/// What of a data sheet's figure is taken as sustained.  No GPU has run this program: these shares
/// are what large products and streaming passes are commonly seen to reach, and docs/planning.md
/// says how the prediction changes with them.
constexpr double kOfPeakProducts = 0.60;
constexpr double kOfPeakAttention = 0.50;
constexpr double kOfBandwidth = 0.80;

/// A GPU from its data sheet: operations/s dense without sparsity, bytes/s.
Machine gpu(std::string name, const std::string& sheet, double bfloat16_peak, double tf32_peak,
            double memory_bandwidth, double memory, double link) {
  return {.name = std::move(name),
          .source = concat(sheet,
                           "; 60 % of peak in products, 50 % in attention, 80 % of memory "
                           "bandwidth, link and network: assumed"),
          .float32_products = kOfPeakProducts * tf32_peak,
          .bfloat16_products = kOfPeakProducts * bfloat16_peak,
          .attention = kOfPeakAttention * bfloat16_peak,
          .quantizer = kOfBandwidth * memory_bandwidth,
          .elementwise = kOfBandwidth * memory_bandwidth,
          .learning_step_s = 5e-4,  // some 500 launches of which the device hides most
          .forward_s = 1e-4,
          .fused_cast = true,  // assumed: there is no kernel for a GPU yet
          .checkpoint_read = 4e9,
          .hdf5_write = 2.5e9,  // what our code's own time allows for samples of 33.5 MB, measured
          .hdf5_read = 1.7e9,   // on the CPU below; the storage permitting
          .memory_copy = 20e9,  // host to device over PCIe
          .storage = 20e9,      // eight NVMe drives, or a parallel file system
          .link = kOfBandwidth * link,
          .network = kOfBandwidth * 50e9,  // 400 Gbit/s for each GPU
          .latency_s = 2e-5,
          .file_s = 5e-3,
          .ranks_per_node = 8,
          .base_bytes = 1.5 * kGiB,  // CUDA context, NCCL buffers, library kernels
          .memory_bytes = memory};
}

/// A probe of this repository's development machine, rounded: two cores, one thread a rank.
Machine cpu() {
  return {.name = "cpu",
          .source = "probed on two cores of an Intel Xeon with AMX, one thread a rank",
          .measured = true,
          .float32_products = 140e9,
          .bfloat16_products = 720e9,
          .attention = 100e9,
          .quantizer = 10e9,
          .elementwise = 17e9,
          .learning_step_s = 2e-3,
          .forward_s = 1.2e-4,
          .float32_step_factor = 1.22,
          .bfloat16_step_factor = 1.35,
          .checkpoint_read = 0.6e9,
          .hdf5_write = 0.7e9,
          .hdf5_read = 4e9,
          .memory_copy = 9e9,
          .link = 8e9,
          .network = 1e9,
          .latency_s = 7e-6,
          .file_s = 3e-4,
          .base_bytes = 150e6,
          .memory_bytes = 12e9};
}

const std::vector<Machine>& machines() {
  static const std::vector<Machine> kMachines = {
      gpu("a100",
          "NVIDIA A100 80GB SXM data sheet: 312 TFLOP/s bfloat16, 156 TF32, 2.039 TB/s, "
          "NVLink 600 GB/s both ways",
          312e12, 156e12, 2.039e12, 80e9, 300e9),
      gpu("h100",
          "NVIDIA H100 SXM data sheet: 989 TFLOP/s bfloat16, 494 TF32, 3.35 TB/s, NVLink "
          "900 GB/s both ways",
          989e12, 494e12, 3.35e12, 80e9, 450e9),
      gpu("h200",
          "NVIDIA H200 SXM data sheet: 989 TFLOP/s bfloat16, 494 TF32, 4.8 TB/s, NVLink "
          "900 GB/s both ways",
          989e12, 494e12, 4.8e12, 141e9, 450e9),
      cpu()};
  return kMachines;
}

}  // namespace

const std::vector<MachineField>& machine_fields() {
  static const std::vector<MachineField> kFields = {
      {"float32_products", &Machine::float32_products},
      {"bfloat16_products", &Machine::bfloat16_products},
      {"attention", &Machine::attention},
      {"quantizer", &Machine::quantizer},
      {"elementwise", &Machine::elementwise},
      {"learning_step_s", &Machine::learning_step_s},
      {"forward_s", &Machine::forward_s},
      {"float32_step_factor", &Machine::float32_step_factor},
      {"bfloat16_step_factor", &Machine::bfloat16_step_factor},
      {"checkpoint_read", &Machine::checkpoint_read},
      {"hdf5_write", &Machine::hdf5_write},
      {"hdf5_read", &Machine::hdf5_read},
      {"memory_copy", &Machine::memory_copy},
      {"storage", &Machine::storage},
      {"link", &Machine::link},
      {"network", &Machine::network},
      {"latency_s", &Machine::latency_s},
      {"file_s", &Machine::file_s},
      {"base_bytes", &Machine::base_bytes},
      {"memory_bytes", &Machine::memory_bytes}};
  return kFields;
}

const Machine& known_machine(std::string_view name) {
  for (const Machine& machine : machines()) {
    if (machine.name == name) return machine;
  }
  throw UsageError({.what = concat("no machine is called '", name, "'"),
                    .where = "option --machine",
                    .fix = concat("use ", join(known_machine_names(), ", "),
                                  ", or a file that lrq-dist plan --probe wrote")});
}

std::vector<std::string> known_machine_names() {
  std::vector<std::string> names;
  for (const Machine& machine : machines()) names.push_back(machine.name);
  return names;
}

}  // namespace lrq::pipeline
