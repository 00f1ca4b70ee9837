#pragma once

#include <functional>

#include "absl/status/status.h"

namespace moescope {

/// What `body` returns; what it throws becomes a status: RESOURCE_EXHAUSTED with
/// reason OUT_OF_MEMORY for std::bad_alloc, INTERNAL for anything else.
absl::Status CatchExceptions(const std::function<absl::Status()>& body);

}  // namespace moescope
