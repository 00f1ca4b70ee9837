#include "client/cli/utf8.h"

#include <cstdint>

namespace moescope::client {
namespace {

// What may follow a lead byte: how many bytes, and the range of the first.
struct Lead {
  std::size_t following = 0;
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xBF;
};

// Table 3-7 of the Unicode standard; no byte follows one that leads nothing.
Lead LeadOf(std::uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {1, 0x80, 0xBF};
  if (byte == 0xE0) return {2, 0xA0, 0xBF};
  if (byte == 0xED) return {2, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {2, 0x80, 0xBF};
  if (byte == 0xF0) return {3, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {3, 0x80, 0xBF};
  if (byte == 0xF4) return {3, 0x80, 0x8F};
  return {};
}

}  // namespace

std::size_t ValidUtf8Bytes(absl::string_view text) {
  const auto byte_at = [text](std::size_t at) {
    return static_cast<std::uint8_t>(text[at]);
  };
  std::size_t at = 0;
  while (at < text.size()) {
    if (byte_at(at) < 0x80) {
      ++at;
      continue;
    }
    const Lead lead = LeadOf(byte_at(at));
    if (lead.following == 0 || text.size() - at <= lead.following ||
        byte_at(at + 1) < lead.low || byte_at(at + 1) > lead.high) {
      return at;
    }
    for (std::size_t i = 2; i <= lead.following; ++i) {
      if ((byte_at(at + i) & 0xC0u) != 0x80u) return at;
    }
    at += lead.following + 1;
  }
  return at;
}

}  // namespace moescope::client
