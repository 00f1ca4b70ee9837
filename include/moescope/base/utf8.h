#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace moescope {

/// What stands at some byte of a text: how many bytes belong together, and
/// whether they are a character.
struct Utf8Sequence {
  std::size_t length = 0;
  bool valid = false;
};

/// The sequence that begins at byte `at` < text.size(). As RFC 3629 has it: no
/// surrogates, nothing above U+10FFFF, no longer form than needed.
Utf8Sequence Utf8SequenceAt(absl::string_view text, std::size_t at);

/// The offset of the first byte that is no UTF-8 (overlong forms and
/// surrogates count as such); npos for valid text.
std::size_t InvalidUtf8Offset(absl::string_view text);

}  // namespace moescope
