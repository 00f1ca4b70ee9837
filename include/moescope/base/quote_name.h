#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace moescope {

// What came from outside, in messages. Threads: all functions are safe.

/// `text`, or where that is longer than `max_bytes` its beginning and "...",
/// together no longer (but for "..." itself). UTF-8 is cut between characters.
std::string Shortened(absl::string_view text, std::size_t max_bytes);

/// `name` quoted for a message: escaped, and cut after 120 bytes, since a
/// request or a hostile file may hold megabytes of it.
std::string QuoteName(absl::string_view name);

}  // namespace moescope
