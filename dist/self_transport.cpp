#include "dist/self_transport.h"

#include "src/base/check.h"
#include "src/base/text.h"

namespace lrq::dist {

std::unique_ptr<Pending> SelfTransport::send(const at::Tensor& /*t*/, Rank to,
                                             std::string_view label) {
  expect(false, concat("a run of one rank sends nothing: '", label, "' to rank ", to));
  return nullptr;
}

std::unique_ptr<Pending> SelfTransport::recv(const at::Tensor& /*into*/, Rank from,
                                             std::string_view label) {
  expect(false, concat("a run of one rank receives nothing: '", label, "' from rank ", from));
  return nullptr;
}

}  // namespace lrq::dist
