#pragma once

#include <span>
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

/// Give every rank the root's values: t, of one shape and dtype on all ranks, is overwritten in
/// place elsewhere.
void broadcast(Transport& transport, const at::Tensor& t, Rank root, std::string_view label);

/// Sum t, of one shape and dtype, in place over the ranks of a group, in a fixed binary tree over
/// their places in it: ((t0 + t1) + (t2 + t3)) + ...  Every rank of the group calls it with the
/// same list, others do not, and every rank gets the same bits.  In log2(ranks) rounds each pair
/// exchanges its partial sums, and both add them, the lower place first.
/// Throws BugError unless the list has a power of two of distinct ranks, with this one among them.
void tree_sum(Transport& transport, const at::Tensor& t, std::span<const Rank> group,
              std::string_view label);

}  // namespace lrq::dist
