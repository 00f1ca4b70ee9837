#include "moescope/base/utf8.h"

#include <cstdint>

namespace moescope {
namespace {

std::uint8_t ByteAt(absl::string_view text, std::size_t at) {
  return static_cast<std::uint8_t>(text[at]);
}

}  // namespace

// The lead byte says how many continuation bytes follow and, for four of them,
// narrows the first one (Unicode standard, table 3-7).
Utf8Sequence Utf8SequenceAt(absl::string_view text, std::size_t at) {
  const std::uint8_t lead = ByteAt(text, at);
  if (lead < 0x80) {
    return {1, true};
  }
  if (lead < 0xC2 || lead > 0xF4) {
    return {1, false};
  }
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xBF;
  if (lead == 0xE0) {
    low = 0xA0;
  } else if (lead == 0xED) {
    high = 0x9F;
  } else if (lead == 0xF0) {
    low = 0x90;
  } else if (lead == 0xF4) {
    high = 0x8F;
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (at + i >= text.size() || ByteAt(text, at + i) < low ||
        ByteAt(text, at + i) > high) {
      return {i, false};
    }
    low = 0x80;
    high = 0xBF;
  }
  return {length, true};
}

std::size_t InvalidUtf8Offset(absl::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const Utf8Sequence sequence = Utf8SequenceAt(text, at);
    if (!sequence.valid) {
      return at;
    }
    at += sequence.length;
  }
  return absl::string_view::npos;
}

}  // namespace moescope
