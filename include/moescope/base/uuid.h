#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace moescope {

/// A new UUID of version 7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, then
/// random bits, lower-case with dashes. Sorts by time of making; two made in
/// the same millisecond sort arbitrarily. Threads: safe.
std::string NewUuidV7(absl::Time now);

/// Whether `text` has the form of a UUID (8-4-4-4-12 lower-case hex digits).
bool IsUuid(absl::string_view text);

}  // namespace moescope
