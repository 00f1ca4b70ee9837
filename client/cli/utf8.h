#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace moescope::client {

/// Length of the longest beginning of `text` that is UTF-8 as RFC 3629 has it:
/// no surrogates, nothing above U+10FFFF, no longer form than needed. All of
/// `text` where it is valid, else the offset of the first wrong byte.
std::size_t ValidUtf8Bytes(absl::string_view text);

}  // namespace moescope::client
