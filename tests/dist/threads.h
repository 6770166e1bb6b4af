#pragma once

#include <chrono>
#include <functional>

#include "dist/transport.h"

namespace lrq::dist {

/// Run `body` as every rank of a fresh ThreadWorld and wait for all of them.  A rank that throws
/// ends the job for the others; its exception, the first one, is thrown here.
void run_as_threads(int ranks, std::chrono::milliseconds timeout,
                    const std::function<void(Transport&)>& body);

}  // namespace lrq::dist
