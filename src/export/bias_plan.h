#pragma once

#include <set>
#include <string>

#include "io/block_state_store.h"
#include "src/models/family.h"

namespace lrq::exporter {

/// Which biases the blocks of an exported folder have.  A shift d leaves a bias W d in the linears
/// that read it and -d/s in the norm; a folder holds what its architecture has a place for.
struct BiasPlan {
  std::set<std::string> linears;      ///< by their names within a block; the same in every block
  std::set<std::string> norms;        ///< likewise
  std::set<std::string> config_keys;  ///< of config.json, to be set to true
};

/// What the linears of a run read: a norm bias can move into their own bias only if that is not
/// rounded on the way, -d/s then being part of what is rounded.
enum class LinearInputs { kExact, kQuantized };

/// The pairs ("qkv", "fc1", "out") whose shift is not zero everywhere, over blocks 0 .. blocks-1.
[[nodiscard]] std::set<std::string> shifted_pairs(const models::Family& family,
                                                  const io::BlockStateStore& states, int blocks);

/// Find a place for every bias that the shifts of these pairs leave: the checkpoint's own biases,
/// and those that a key of config.json switches on (a table by model_type).
/// Source: docs/methods.md, "Export".
/// Throws UsageError naming smoothing.shift where there is none.
[[nodiscard]] BiasPlan plan_biases(const models::Family& family,
                                   const std::set<std::string>& shifted, LinearInputs inputs);

}  // namespace lrq::exporter
