#include <array>
#include <cstdint>
#include <string>

#include "server/model/tokenizer/byte_level_internal.h"
#include "server/model/tokenizer/unicode_internal.h"

namespace moescope::model::internal {
namespace {

constexpr char32_t kFirstStandIn = 0x100;
constexpr std::size_t kNumStandIns = 68;

struct Tables {
  std::array<std::string, 256> characters;
  // From stand-in (less kFirstStandIn) to byte.
  std::array<char, kNumStandIns> bytes{};
};

bool StandsForItself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
         byte >= 0xAE;
}

const Tables& GetTables() {
  static const Tables tables = [] {
    Tables made;
    std::uint8_t next = 0;
    for (unsigned byte = 0; byte < 256; ++byte) {
      if (StandsForItself(byte)) {
        made.characters[byte] = EncodeUtf8(byte);
      } else {
        made.characters[byte] = EncodeUtf8(kFirstStandIn + next);
        made.bytes[next++] = static_cast<char>(byte);
      }
    }
    return made;
  }();
  return tables;
}

}  // namespace

std::string ToByteLevel(absl::string_view bytes) {
  const Tables& tables = GetTables();
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    text += tables.characters[static_cast<unsigned char>(byte)];
  }
  return text;
}

std::optional<std::string> FromByteLevel(absl::string_view token) {
  const Tables& tables = GetTables();
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const CodePoint point = DecodeUtf8(token, at);
    at += point.length;
    if (point.value < 0x100) {
      const auto byte = static_cast<unsigned>(point.value);
      if (!StandsForItself(byte)) {
        return std::nullopt;
      }
      bytes += static_cast<char>(static_cast<unsigned char>(byte));
    } else if (point.value < kFirstStandIn + kNumStandIns) {
      bytes += tables.bytes[point.value - kFirstStandIn];
    } else {
      return std::nullopt;
    }
  }
  return bytes;
}

}  // namespace moescope::model::internal
