#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "dist/transport.h"

namespace lrq::dist {

/// What all ranks do together, built on send and receive alone so that every transport has it.
/// Each is called by every rank in the same order with the same root.  Throws TransportError.

/// Return when every rank has called it.
void barrier(Transport& transport, std::string_view label);

/// Give every rank the root's text.
[[nodiscard]] std::string broadcast_text(Transport& transport, const std::string& text, Rank root,
                                         std::string_view label);

/// Collect every rank's tensor of one shape and dtype on the root, in rank order; empty elsewhere.
[[nodiscard]] std::vector<at::Tensor> gather(Transport& transport, const at::Tensor& mine,
                                             Rank root, std::string_view label);

/// Collect every rank's text on the root, in rank order; empty elsewhere.
[[nodiscard]] std::vector<std::string> gather_text(Transport& transport, const std::string& mine,
                                                   Rank root, std::string_view label);

}  // namespace lrq::dist
