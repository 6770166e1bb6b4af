#pragma once

namespace lrq::recipe {

enum class RotationKind { kOff, kGreedy, kUniform, kHadamard };
enum class Householder { kOff, kFixed, kLearned };
enum class QkRotation { kOff, kHadamard };
enum class Greedy { kColumn, kRow };
enum class Givens { kTarget, kReference };
enum class RotationBlocks { kShared, kSeparate };
enum class RotationCalib { kMean, kTokens };

/// Changes of basis of the linears' inputs, built from calibration data (RUQuant, DuQuant).
struct RotationRecipe {
  RotationKind kind = RotationKind::kOff;
  int block_size = 0;           ///< 0: the largest power of two up to 128 that divides a width;
                                ///< -1: the whole width
  int steps = 16;               ///< greedy: the most rotations that are tried
  int permutations = 1;         ///< rotations: one more
  int random_permutations = 3;  ///< with kind = uniform, per step
  int draws = 1;                ///< chains drawn for a site, of which the best is taken
  Householder householder = Householder::kOff;  ///< one reflection behind the rotations
  double lr = 1e-2;                             ///< of learned reflections
  bool truncate = false;                        ///< parity: entries of them kept above 0.01
  QkRotation qk = QkRotation::kOff;             ///< queries and keys, per head, behind RoPE
  Greedy greedy = Greedy::kColumn;
  Givens givens = Givens::kTarget;
  RotationBlocks blocks = RotationBlocks::kShared;
  RotationCalib calib = RotationCalib::kMean;
  int calib_tokens = 2048;  ///< with calib = tokens: the most that a map is built from
};

}  // namespace lrq::recipe
