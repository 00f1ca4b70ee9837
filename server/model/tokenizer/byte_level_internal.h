#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace moescope::model::internal {

/// GPT-2's printable stand-ins: every byte of `bytes` as one character of its
/// own (printable Latin-1 as itself, the others from U+0100 on).
std::string ToByteLevel(absl::string_view bytes);

/// The bytes that the characters of `token` (valid UTF-8) stand for; nothing
/// when one of them stands for none.
std::optional<std::string> FromByteLevel(absl::string_view token);

}  // namespace moescope::model::internal
