#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace moescope::client {

/// Appends the lowest `bytes` bytes of `value`, lowest first.
inline void AppendLittleEndian(std::uint64_t value, int bytes,
                               std::string& out) {
  for (int i = 0; i < bytes; ++i) {
    out.push_back(static_cast<char>((value >> (8 * i)) & 0xFF));
  }
}

}  // namespace moescope::client
