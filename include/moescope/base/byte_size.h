#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope {

/// Reads "1048576", "512KiB", "4GiB", "1.5TiB" (powers of 1024) or "4GB"
/// (powers of 1000). Errors: INVALID_ARGUMENT for anything else, negative
/// numbers and overflow.
absl::StatusOr<std::int64_t> ParseByteSize(absl::string_view text);

/// "512 B", "10.6 MiB".
std::string FormatByteSize(std::int64_t bytes);

}  // namespace moescope
