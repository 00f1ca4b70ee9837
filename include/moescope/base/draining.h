#pragma once

#include "absl/status/status.h"

namespace moescope {

/// UNAVAILABLE DRAINING, with when to try again: what a server that is going
/// down answers to new calls, and ends its streams with.
/// Threads: safe.
absl::Status DrainingError();

}  // namespace moescope
