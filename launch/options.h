#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/recipe/recipe.h"

namespace CLI {  // NOLINT(readability-identifier-naming): CLI11's own
class App;       // its header costs every source that reads it several seconds
}

namespace lrq::cli {

/// Options of every command: where and how to run, never what to compute.
struct GlobalOptions {
  std::string log_level = "info";
  std::string json;             ///< --json FILE: machine-readable result
  std::string device = "auto";  ///< auto, cpu, cuda
  std::string gpu_memory;       ///< most that tensors may take of a GPU, as a size; empty: all
  std::string dtype = "auto";   ///< auto, float32, bfloat16
  int threads = 1;
  std::string transport = "auto";  ///< auto, mpi, nccl
  double timeout_s = 1800.0;
};
void add_global_options(CLI::App& app, GlobalOptions& options);

/// The recipe and the command line's changes to it, in the order given.
struct RecipeOptions {
  std::string recipe = "lrquant";
  std::vector<std::pair<std::string, std::string>> short_flags;  ///< field, value
  std::vector<std::string> assignments;                          ///< --set table.field=value
  bool float32_products = false;  ///< --deactive_amp: as --dtype float32
  bool only_quant_kv = false;     ///< --only_quant_kv: activations other than keys and values at 16
};
/// --recipe, --set, and the short spellings of recipe fields (--wbits, --epochs, ...).
void add_recipe_options(CLI::App& command, RecipeOptions& options);
/// --resident-blocks of a command that holds blocks, or plans to.
void add_resident_blocks_option(CLI::App& command, int& blocks);
/// The merged recipe, not validated.  Throws UsageError.
[[nodiscard]] recipe::Recipe merged_recipe(const RecipeOptions& options);

/// The published code's spellings: --group_size is --group-size.  Values are left alone.
[[nodiscard]] std::vector<std::string> normalised_arguments(int argc, const char* const* argv);

}  // namespace lrq::cli
