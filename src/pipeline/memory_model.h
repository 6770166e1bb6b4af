#pragma once

#include "src/pipeline/cost_model.h"
#include "src/pipeline/targets.h"

namespace lrq::pipeline {

/// Bytes that one rank has at the same time in one phase.
struct MemoryUse {
  double weights = 0.0;      ///< of its blocks, as long as the phase takes
  double learnables = 0.0;   ///< with start values and the best epoch
  double optimiser = 0.0;    ///< moments and rates
  double work = 0.0;         ///< folded weights, their gradients, and while a block is opened
  double activations = 0.0;  ///< kept for the way back, micro-batches, messages
  double targets = 0.0;      ///< kept for the whole wave (Targets::kMemory)
  [[nodiscard]] double total() const {
    return weights + learnables + optimiser + work + activations + targets;
  }
};

/// The phases of a run on one rank, and what it has besides.
struct RankMemory {
  MemoryUse chain;
  MemoryUse learn;
  MemoryUse freeze;
  double base = 0.0;  ///< Machine::base_bytes
  double kept = 0.0;  ///< by the allocator of what was freed, and of the tokenizer; on a CPU
  [[nodiscard]] const MemoryUse& heaviest() const;
  /// base, kept and the heaviest phase.
  [[nodiscard]] double most() const;
};

/// How much of a model a rank holds.
struct RankShare {
  int chain_blocks = 0;           ///< original blocks in the full-precision chain
  int learn_blocks = 0;           ///< of a wave
  int resident_blocks = 0;        ///< of them, whose weights are there at the same time; 0: all
  bool embeds = false;            ///< the chain's first rank
  std::int64_t samples = 1;       ///< of a micro-batch, on this rank
  std::int64_t kept_samples = 0;  ///< whose targets and inputs stay in memory
  bool recomputes = false;        ///< original blocks beside those that learn
  bool on_device = false;         ///< a GPU: files are read and tokens made in the host
};

/// Original blocks of the chain, ready to run: c F for each (c: bytes of a compute element), and
/// the embedding in float32 on the first rank.  Besides, the largest of what comes one after the
/// other: 4 P while the last block is read; the embedding's mapped pages while it is (on a CPU);
/// one sample's activations, 4 T (4 C + 2 Q + 4 I), with two messages each way and a turn's
/// samples.
[[nodiscard]] MemoryUse chain_memory(const BlockWork& work, const ModelFigures& model,
                                     const RankShare& share);

/// Blocks that learn.  Each: 4 P of weights, n learnables of which values, rates, the best epoch,
/// both moments take 4 bytes each (c F more where the loss needs the original block).  One of them
/// at a time: its folded weights c F, the float32 ones of the largest linear on the way to another
/// dtype, that linear's gradient twice, n gradients four times over, and per sample 4 T (12 C + 7 Q
/// + 6 V + 8 I) kept for the way back; a micro-batch of inputs, targets and outputs, and with a
/// neighbour two messages each way; on a CPU two steps' samples that are read ahead.
/// Originals that make targets again are c F each.
/// Changes of basis that nothing learns keep the changed weights, 4 F each.
/// Where fewer blocks are resident, only their weights count, and outputs and targets of a turn's
/// other steps wait for the blocks to come.
[[nodiscard]] MemoryUse learn_memory(const BlockWork& work, const RankShare& share);

/// Folded blocks: c F each; while one is folded, 4 P read and the float32 of its largest linear.
[[nodiscard]] MemoryUse freeze_memory(const BlockWork& work, const RankShare& share);

/// All of it.  kept, as measured with glibc: 15 % of the chain's weights and of what learning has,
/// where tensors are smaller than the 32 MiB from which their pages go back at once, and 400 bytes
/// for each token of the vocabulary on the first rank, which makes the tokens.
[[nodiscard]] RankMemory rank_memory(const BlockWork& work, const ModelFigures& model,
                                     const RankShare& share, const Machine& machine);

}  // namespace lrq::pipeline
