#pragma once

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/dist/nccl_stand_in.h"

/// The inside of the stand-in, in three sources: nccl_stand_in_comms.cpp is what NCCL does,
/// nccl_stand_in_streams.cpp what CUDA and the caching allocator do, nccl_stand_in.cpp the table.
namespace lrq::dist::stand_in {

inline constexpr int kInvalidUsage = 5;  ///< ncclInvalidUsage
inline constexpr int kRemoteError = 6;   ///< ncclRemoteError

struct Stream;
struct Comm;

struct Event {
  Stream* stream = nullptr;
  bool done = false;
  int asks = 0;  // that are still answered with "not ready"
};

struct Transfer {
  Comm* comm = nullptr;
  Stream* stream = nullptr;
  char* data = nullptr;
  std::size_t bytes = 0;
  bool sends = false;
  bool done = false;
};

/// What a stream is given: one of these.
struct Item {
  std::function<void()> work = {};
  Event* record = nullptr;
  Event* wait = nullptr;
  std::vector<Transfer*> group = {};
};

struct Stream {
  Rank rank;
  std::deque<Item> items;
  bool being_run = false;  // a stream that is found again below itself waits for itself
};

struct Comm {
  Rank owner;
  int place = 0;
  NcclId id = {};
  Stream* stream = nullptr;  // the one that its calls came with
  int busy = 0;              // asks that are still answered with "in progress"
  bool joined = false;       // both ends are there
  bool launched = false;     // has had a call: the peer's first can connect
  bool connected = false;
  int error = 0;
  bool closed = false;
  std::vector<Transfer*> launching;
  std::vector<Transfer*> transfers;  // in order
};

struct Allocation {
  Rank rank;
  std::vector<char> memory;
  std::set<void*> recorded = {};
};

/// The rank that a thread is, and the group of NCCL calls that it has begun.
struct Self {
  NcclStandIn::Impl* impl = nullptr;
  Rank rank = {};
  int depth = 0;
  std::vector<Transfer*> group = {};
};
[[nodiscard]] Self& self();

/// Whether the memory of a transfer is part of [data, data + bytes).
[[nodiscard]] bool overlap(const Transfer& transfer, const char* data, std::size_t bytes);

}  // namespace lrq::dist::stand_in

namespace lrq::dist {

class NcclStandIn::Impl {
  using Stream = stand_in::Stream;
  using Comm = stand_in::Comm;
  using Event = stand_in::Event;
  using Transfer = stand_in::Transfer;
  using Item = stand_in::Item;
  using Allocation = stand_in::Allocation;

 public:
  explicit Impl(unsigned seed) : random_(seed) {}

  // NCCL
  int get_id(NcclId* id);
  int comm_init(void** comm, int size, const NcclId* id, int place);
  int comm_state(Comm& comm, int* state);
  int comm_finalize(Comm& comm);
  int comm_destroy(Comm& comm);
  int comm_abort(Comm& comm);
  int transfer(char* data, std::size_t bytes, bool sends, int peer, Comm& comm, Stream& stream);
  int group_end();
  // CUDA
  int event_create(void** event);
  int event_record(Event& event, Stream& stream);
  int event_query(Event& event);
  int stream_wait_event(Stream& stream, Event& event);
  int compute_stream(void** stream);
  int new_stream(void** stream);
  int record_stream(const at::Tensor& tensor, void* stream);
  // the test's own
  void compute(std::function<void()> work);
  void synchronize();
  char* allocate(std::int64_t bytes);
  void give_back(const char* data);
  void break_links(Rank rank, int code);
  std::vector<std::string> faults() const;
  int groups_of_several() const;

 private:
  int fault(const std::string& text) {
    faults_.push_back(text);
    return stand_in::kInvalidUsage;
  }
  int some() { return static_cast<int>(random_() % 4); }
  Comm* other_end(const Comm& comm);
  Transfer* partner(const Transfer& transfer);
  bool run_until(Stream& stream, const std::function<bool()>& reached);
  bool run_item(Item& item);
  bool run_transfer(Transfer& transfer);
  bool is_at_front(const Transfer& transfer);
  void check_buffer(const Transfer& transfer);
  Stream& compute_stream_of(Rank rank);
  void enqueue(Comm& comm);

  mutable std::mutex mutex_;
  std::mt19937 random_;
  std::vector<std::string> faults_;
  int groups_of_several_ = 0;
  char next_id_ = 1;
  std::map<Rank, Stream> compute_;
  std::deque<Stream> streams_;
  std::deque<Event> events_;
  std::deque<Comm> comms_;
  std::deque<Transfer> transfers_;
  std::deque<Allocation> allocations_;
};

}  // namespace lrq::dist
