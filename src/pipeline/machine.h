#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lrq::pipeline {

/// How fast one rank's device does each kind of work that a run consists of: what it sustains, not
/// the peak.  Measured by `lrq-dist plan --probe`, or taken from the table in machine.cpp.
struct Machine {
  std::string name;
  std::string source;            ///< where the figures come from, for the output
  bool measured = false;         ///< by a probe on this kind of machine
  double float32_products = 0;   ///< operations/s of matrix products
  double bfloat16_products = 0;  ///< likewise
  double attention = 0;          ///< operations/s, of 4 T^2 Q forward: masked places count too
  double quantizer = 0;          ///< bytes/s of a pass that reads, rounds and writes
  double elementwise = 0;        ///< bytes/s of sums, products and casts
  double learning_step_s = 0;    ///< of a block with next to no work: what starting its parts costs
  double forward_s = 0;          ///< likewise, of one sample forward
  double float32_step_factor = 1;   ///< a whole learning step by the sum of its parts: what caches
  double bfloat16_step_factor = 1;  ///< and memory cost when the parts follow on each other
  bool fused_cast = false;          ///< what is quantized leaves the quantizer in the compute dtype
  double checkpoint_read = 0;       ///< bytes/s of weights: file to float32
  double hdf5_write = 0;            ///< bytes/s of activations, checksum included
  double hdf5_read = 0;             ///< likewise
  double memory_copy = 0;   ///< bytes/s: targets that are kept in memory to where they are used
  double storage = 0;       ///< bytes/s that the ranks of one node share; 0: no such limit
  double link = 0;          ///< bytes/s between two ranks of a node
  double network = 0;       ///< bytes/s between two nodes, for each rank
  double latency_s = 0;     ///< of a message
  double file_s = 0;        ///< to make one small file durable
  int ranks_per_node = 0;   ///< 0: all ranks in one
  double base_bytes = 0;    ///< of a process that computes nothing yet
  double memory_bytes = 0;  ///< of one rank's device
};

/// One figure of a machine by its name in a file.
struct MachineField {
  std::string_view name;
  double Machine::*value;
};
/// Every figure but the two flags and ranks_per_node, in the order of the struct.
[[nodiscard]] const std::vector<MachineField>& machine_fields();

/// The machines of the table: "a100", "h100", "h200", "cpu".  Throws UsageError on other names.
[[nodiscard]] const Machine& known_machine(std::string_view name);
[[nodiscard]] std::vector<std::string> known_machine_names();

}  // namespace lrq::pipeline
