#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/exchange.h"
#include "dist/host_link.h"
#include "dist/nccl_api.h"

namespace lrq::dist {

/// A CUDA event, recorded at its making on what `stream` has been given so far.
/// Owns: the event; api must outlive it.
class NcclEvent {
 public:
  /// Throws TransportError with CUDA's text.
  NcclEvent(const NcclApi& api, void* stream, std::string_view where);
  ~NcclEvent();
  NcclEvent(const NcclEvent&) = delete;
  NcclEvent& operator=(const NcclEvent&) = delete;
  [[nodiscard]] void* get() const { return event_; }

 private:
  const NcclApi& api_;
  void* event_ = nullptr;
};

/// One send or receive between GPUs.
struct NcclOperation {
  Exchange exchange;
  at::Tensor tensor;               ///< kept until the GPU is done with it
  std::optional<NcclEvent> ready;  ///< what computed the tensor to send, or used the one to fill
  std::optional<NcclEvent> done;   ///< set once NCCL has put it on the stream
  bool complete = false;
  bool dropped = false;  ///< nobody waits for it
};

/// The messages of one direction between two ranks: a communicator of these two, and a stream.
///
/// NCCL works off the operations of one communicator one after the other, and a kernel waits on the
/// GPU until its peer has come.  On one communicator for all, a receive that waits for its peer
/// would hold up the send behind it, and a ring of ranks would wait for ever; so each direction of
/// each pair that has messages gets its own, of two ranks (as PyTorch does for single sends).
///
/// Sender: its id goes ahead (kOpen), then per message an offer with bytes and dtype (kOffer).
/// ncclSend follows at once, behind the event of the compute stream.  Receiver: NCCL does not
/// compare sizes (a receive of another size hangs or corrupts), so ncclRecv follows only once the
/// offer is there and equals what is expected; else the sender is told (kRefusal).  Receives whose
/// offers are all there go as one NCCL group; sends go singly, as a group is complete only when all
/// of it is, and the first of two sends must not wait for the receive of the second.  An empty
/// tensor is an offer and nothing else.
///
/// Nothing blocks: initialisation and calls may be in progress (ncclInProgress), and advance() goes
/// on from there.
/// Owns: the communicator.  api, link and the operations given to it must outlive it.
class NcclChannel {
 public:
  NcclChannel(const NcclApi& api, HostLink& link, Direction direction, Rank self, Rank peer);
  ~NcclChannel();
  NcclChannel(const NcclChannel&) = delete;
  NcclChannel& operator=(const NcclChannel&) = delete;

  [[nodiscard]] void* stream() const { return stream_; }
  /// Append an operation, which has its event `ready`.  Its `complete` is set by advance().
  void add(NcclOperation& operation);
  /// Take a notice from the peer.  Throws TransportError for a refusal.
  void take(const Notice& notice);
  /// Do what can be done now.  Throws TransportError: NCCL's or CUDA's error, another size.
  void advance();

  /// End the communicator in peace: start, then ask until it returns true.
  void start_close();
  [[nodiscard]] bool closed();
  void abort() noexcept;

 private:
  void open(const NcclId& id);
  [[nodiscard]] bool settled();
  void complete_done();
  void launch();
  [[nodiscard]] bool next_is_here();
  void launch_group(const std::vector<NcclOperation*>& group);
  [[nodiscard]] std::string where() const;
  [[nodiscard]] std::string where(const NcclOperation& operation) const;

  const NcclApi& api_;
  HostLink& link_;
  const Direction direction_;
  const Rank self_;
  const Rank peer_;
  void* stream_ = nullptr;
  void* comm_ = nullptr;
  std::deque<NcclOperation*> queue_;       // not yet given to NCCL
  std::deque<Notice> offers_;              // of messages whose receive is in the queue, or not yet
  std::vector<NcclOperation*> launching_;  // given to NCCL, perhaps not yet on the stream
  std::deque<NcclOperation*> running_;     // on the stream
};

}  // namespace lrq::dist
