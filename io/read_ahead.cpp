#include "io/read_ahead.h"

#include <algorithm>
#include <utility>

#include "src/base/check.h"
#include "src/base/text.h"

namespace lrq::io {

ReadAhead::ReadAhead(std::function<PlannedRead()> plan, std::size_t window,
                     std::function<at::Tensor(const at::Tensor&)> place)
    : plan_(std::move(plan)), window_(window), place_(std::move(place)) {
  plan_more();
  thread_ = std::thread([this] { run(); });
}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  planned_.notify_one();
  thread_.join();
}

void ReadAhead::plan_more() {
  while (plan_ && reads_.size() < window_) {
    const PlannedRead next = plan_();
    if (next.reader == nullptr) {
      plan_ = nullptr;
      return;
    }
    reads_.push_back(std::make_shared<Read>());
    reads_.back()->what = next;
  }
}

std::shared_ptr<ReadAhead::Read> ReadAhead::next_to_begin() const {
  const auto next =
      std::find_if(reads_.begin(), reads_.end(), [](const auto& read) { return !read->begun; });
  return next == reads_.end() ? nullptr : *next;
}

at::Tensor ReadAhead::read(const PlannedRead& what) const {
  const at::Tensor sample = what.reader->read(what.sample);
  return place_ ? place_(sample) : sample;
}

void ReadAhead::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    planned_.wait(lock, [this] { return ends_ || next_to_begin() != nullptr; });
    if (ends_) return;
    const std::shared_ptr<Read> read = next_to_begin();
    read->begun = true;
    lock.unlock();
    try {
      read->sample = this->read(read->what);
    } catch (...) {
      read->failure = std::current_exception();
    }
    lock.lock();
    read->done = true;
    done_.notify_one();
  }
}

at::Tensor ReadAhead::take(const PlannedRead& expected) {
  std::unique_lock lock(mutex_);
  expect(!reads_.empty(), concat("sample ", expected.sample, " is taken behind the last read"));
  const std::shared_ptr<Read> read = std::move(reads_.front());
  reads_.pop_front();
  expect(read->what.reader == expected.reader && read->what.sample == expected.sample,
         concat("sample ", expected.sample, " is taken where ", read->what.sample, " was planned"));
  plan_more();
  const bool begun = std::exchange(read->begun, true);
  if (begun) done_.wait(lock, [&] { return read->done; });
  lock.unlock();
  planned_.notify_one();
  if (read->failure) std::rethrow_exception(read->failure);
  return begun ? std::move(read->sample) : this->read(read->what);
}

}  // namespace lrq::io
