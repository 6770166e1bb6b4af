#include "dist/exchange.h"

#include <thread>

#include "src/base/check.h"
#include "src/base/text.h"

namespace lrq::dist {

Exchange make_exchange(Direction direction, const Transport& transport, const at::Tensor& t,
                       Rank peer, std::string_view label) {
  const Rank self = transport.rank();
  expect(t.defined(), concat("tensor '", label, "' of a send or receive is defined"));
  expect(t.is_contiguous(), concat("tensor '", label, "' of a send or receive is contiguous"));
  expect(peer.value >= 0 && peer.value < transport.size(),
         concat("rank ", self, " exchanges '", label, "' with rank ", peer, " of ranks 0 to ",
                transport.size() - 1));
  expect(peer != self, concat("rank ", self, " exchanges '", label, "' with another rank"));
  return {.direction = direction,
          .self = self,
          .peer = peer,
          .label = std::string(label),
          .bytes = static_cast<std::int64_t>(t.nbytes()),
          .dtype = t.scalar_type()};
}

std::string describe(const Exchange& exchange) {
  const bool sends = exchange.direction == Direction::kSend;
  return concat("rank ", exchange.self, sends ? " sends '" : " receives '", exchange.label, "' (",
                exchange.bytes, " bytes) ", sends ? "to" : "from", " rank ", exchange.peer);
}

TransportError timeout_error(const Exchange& exchange, std::chrono::nanoseconds waited) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(waited).count();
  const bool sends = exchange.direction == Direction::kSend;
  return TransportError(
      {.what = concat("no answer from rank ", exchange.peer, ": waited ", ms, " ms for it to ",
                      sends ? "receive '" : "send '", exchange.label, "'"),
       .where = describe(exchange),
       .fix = concat("read the log of rank ", exchange.peer,
                     "; if it was only slow, raise --timeout")});
}

TransportError mismatch_error(const Exchange& exchange, std::string_view found) {
  return TransportError(
      {.what = concat("message of another size or dtype: found ", found, ", expected ",
                      exchange.bytes, " bytes of ", at::toString(exchange.dtype)),
       .where = describe(exchange),
       .fix = "start every rank with the same program, model and options"});
}

void back_off(std::chrono::nanoseconds waited) {
  using std::chrono::microseconds;
  if (waited < microseconds(20)) return;
  if (waited < std::chrono::milliseconds(5)) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(microseconds(50));
  }
}

}  // namespace lrq::dist
