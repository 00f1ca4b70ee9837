#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

#include "moescope/base/utf8.h"

namespace moescope::model::internal {

/// One character of a text.
struct CodePoint {
  char32_t value = 0;
  /// Bytes it takes in UTF-8.
  std::size_t length = 0;
};

/// The character at byte `at` of `text`, which must be valid UTF-8.
CodePoint DecodeUtf8(absl::string_view text, std::size_t at);

/// The character that ends before byte `end` (> 0) of valid `text`.
CodePoint DecodeUtf8Before(absl::string_view text, std::size_t end);

std::string EncodeUtf8(char32_t value);

/// `bytes` with every maximal invalid part replaced by U+FFFD.
std::string ReplaceInvalidUtf8(absl::string_view bytes);

/// Property White_Space.
bool IsWhitespace(char32_t value);
/// General category N.
bool IsNumeric(char32_t value);
/// General category P, or an ASCII symbol.
bool IsPunctuation(char32_t value);
/// General category M.
bool IsMark(char32_t value);
/// `\w` of UTS 18: alphabetic, marks, decimal digits, connectors, joiners.
bool IsWord(char32_t value);
/// Full lower-case mapping, as UTF-8.
std::string ToLower(char32_t value);

}  // namespace moescope::model::internal
