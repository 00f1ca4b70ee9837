#include "server/results/crc32c_internal.h"

#include <array>
#include <cstddef>

namespace moescope::internal {
namespace {

// Eight tables: a step takes eight bytes, which keeps the check well above the
// speed of the disk without any special instruction.
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables MakeTables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82F63B78u : 0u);
    }
    tables[0][byte] = crc;
  }
  for (std::size_t step = 1; step < 8; ++step) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[step - 1][byte];
      tables[step][byte] = (before >> 8) ^ tables[0][before & 0xFFu];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

std::uint32_t ByteAt(absl::string_view bytes, std::size_t index) {
  return static_cast<unsigned char>(bytes[index]);
}

}  // namespace

std::uint32_t Crc32c(absl::string_view bytes, std::uint32_t crc) {
  crc = ~crc;
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    crc = kTables[7][(crc ^ ByteAt(bytes, i)) & 0xFFu] ^
          kTables[6][((crc >> 8) ^ ByteAt(bytes, i + 1)) & 0xFFu] ^
          kTables[5][((crc >> 16) ^ ByteAt(bytes, i + 2)) & 0xFFu] ^
          kTables[4][((crc >> 24) ^ ByteAt(bytes, i + 3)) & 0xFFu] ^
          kTables[3][ByteAt(bytes, i + 4)] ^ kTables[2][ByteAt(bytes, i + 5)] ^
          kTables[1][ByteAt(bytes, i + 6)] ^ kTables[0][ByteAt(bytes, i + 7)];
  }
  for (; i < bytes.size(); ++i) {
    crc = (crc >> 8) ^ kTables[0][(crc ^ ByteAt(bytes, i)) & 0xFFu];
  }
  return ~crc;
}

}  // namespace moescope::internal
