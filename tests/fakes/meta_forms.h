#pragma once

namespace lrq {

/// Give the meta device those operations which LibTorch has a meta form of in Python alone: the
/// shape and dtype of a result, from operands that must all be on the meta device.  For the whole
/// process; more calls do nothing.
void add_meta_forms();

}  // namespace lrq
