#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "dist/transport.h"

namespace lrq::pipeline {

/// Keep ranks that have no part in a phase from taking the others for lost: rank 0 gives them a
/// sign of life every second and says when the phase is over.  A phase may take hours, a wait may
/// not. Outside the plan, as the number of signs depends on the clock; bits do not depend on them.
class IdleRanks {
 public:
  /// Ranks first_idle .. size-1 are idle.  On rank 0.
  IdleRanks(dist::Transport& transport, int first_idle);
  /// Call between actions; sends nothing more often than once a second.
  void beat();
  /// The phase is over.
  void release();

 private:
  void tell(bool over);

  dist::Transport& transport_;  // Owns: borrowed from the run
  int first_idle_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::vector<std::unique_ptr<dist::Pending>> in_flight_;
};

/// What an idle rank does instead: return when rank 0 says that the phase is over.
void wait_as_idle_rank(dist::Transport& transport);

}  // namespace lrq::pipeline
