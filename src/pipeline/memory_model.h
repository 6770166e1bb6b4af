#pragma once

#include <string_view>

#include "src/pipeline/cost_model.h"

namespace lrq::pipeline {

/// Where the stored targets and inputs of a wave are while it learns.  `calibrate` reads them from
/// their shards, step by step; the other two are plans.
enum class Targets { kDisk, kHost, kDevice };
[[nodiscard]] std::string_view targets_name(Targets targets);

/// Bytes that one rank has at the same time in one phase.
struct MemoryUse {
  double weights = 0.0;      ///< of its blocks, as long as the phase takes
  double learnables = 0.0;   ///< with start values and the best epoch
  double optimiser = 0.0;    ///< moments and rates
  double work = 0.0;         ///< folded weights, their gradients, and while a block is opened
  double activations = 0.0;  ///< kept for the way back, micro-batches, messages
  double targets = 0.0;      ///< kept for the whole wave (Targets::kDevice)
  [[nodiscard]] double total() const {
    return weights + learnables + optimiser + work + activations + targets;
  }
};

/// The phases of a run on the rank that has the most, above what a process needs anyway.
struct RankMemory {
  MemoryUse chain;
  MemoryUse learn;
  MemoryUse freeze;
  double base = 0.0;    ///< Machine::base_bytes
  double mapped = 0.0;  ///< pages of the checkpoint that it has read; the system may take them back
  [[nodiscard]] double most() const;  ///< base and the largest phase: what has to fit
  [[nodiscard]] double peak() const;  ///< with the mapped pages: what a measurement shows
  [[nodiscard]] const MemoryUse& heaviest() const;
};

/// How much of a model a rank holds.
struct RankShare {
  int chain_blocks = 0;           ///< original blocks in the full-precision chain
  int learn_blocks = 0;           ///< of a wave
  int touched_blocks = 0;         ///< different ones, over the whole run
  bool embeds = false;            ///< the chain's first rank
  std::int64_t samples = 1;       ///< of a micro-batch, on this rank
  std::int64_t kept_samples = 0;  ///< whose targets and inputs stay in device memory
  bool on_device = false;  ///< checkpoint pages lie in the host's memory, not in the device's
};

/// Original blocks of the chain, ready to run: c F for each (c: bytes of a compute element); while
/// the last is read 4 P, and when that is free again the embedding in float32 on the first rank and
/// one sample's activations, 4 T (4 C + 2 Q + 4 I), with two messages each way.
[[nodiscard]] MemoryUse chain_memory(const BlockWork& work, const ModelFigures& model,
                                     const RankShare& share);

/// Blocks that learn.  Each: 4 P of weights, n learnables of which values, rates, the best epoch,
/// both moments take 4 bytes each (c F more where the loss needs the original block).  One of them
/// at a time: its folded weights c F, the float32 ones of the largest linear on the way to another
/// dtype, that linear's gradient twice, n gradients four times over, and per sample 4 T (12 C + 7 Q
/// + 6 V + 8 I) kept for the way back; a micro-batch of inputs, targets and outputs, and with a
/// neighbour two messages each way.
/// Changes of basis that nothing learns keep the changed weights, 4 F each.
[[nodiscard]] MemoryUse learn_memory(const BlockWork& work, const RankShare& share);

/// Folded blocks: c F each; while one is folded, 4 P read and the float32 of its largest linear.
[[nodiscard]] MemoryUse freeze_memory(const BlockWork& work, const RankShare& share);

[[nodiscard]] RankMemory rank_memory(const BlockWork& work, const ModelFigures& model,
                                     const RankShare& share, const Machine& machine);

}  // namespace lrq::pipeline
