#pragma once

#include <span>
#include <stdexcept>
#include <string>

#include "dist/transport.h"

namespace lrq::dist::contract {

/// A transport did not keep a promise of dist/transport.h.
class Broken : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// One promise, as a body that every rank runs on its own transport.  Throws Broken (on any rank)
/// when the promise is not kept.  A plain function, so that the suite itself can be tested on a
/// transport that is wrong on purpose.
struct Case {
  const char* name;
  void (*body)(Transport& transport);
};

/// Every promise that does not end the job; each needs at least two ranks and any timeout >= 2 s.
[[nodiscard]] std::span<const Case> cases();

/// Rank 1 awaits 8 bytes and rank 0 sends more or fewer: the receive throws.  The send may throw
/// too.
void receive_of_another_size(Transport& transport, std::int64_t sent_bytes);

/// Rank 0 awaits a message that rank 1 never sends: TransportError with both ranks, the label and
/// the time.  Needs a transport with a short timeout.
void timeout_names_peer_and_label(Transport& transport);

/// The last rank does nothing while every other one exchanges with it: each gets a TransportError
/// that names it.  Needs a transport with a short timeout.
void peers_name_a_stalled_rank(Transport& transport);

}  // namespace lrq::dist::contract
