#pragma once

#include <functional>

#include "absl/status/status.h"

namespace moescope::numerics {

/// What `body` returns; what torch, or what torch uses, throws in it becomes a
/// status: RESOURCE_EXHAUSTED reason OUT_OF_DEVICE_MEMORY where an allocator of
/// a device or of the host has no more, INTERNAL for anything else.
absl::Status CatchTorchErrors(const std::function<absl::Status()>& body);

}  // namespace moescope::numerics
