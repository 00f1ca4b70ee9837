#pragma once

#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>

namespace moescope::model {

/// The 8 bytes of a safetensors length field.
inline std::string LengthField(std::uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes += static_cast<char>((length >> (8 * i)) & 0xff);
  }
  return bytes;
}

/// A safetensors file of `header` and `data`.
inline std::string SafetensorsBytes(const std::string& header,
                                    const std::string& data) {
  return LengthField(header.size()) + header + data;
}

inline std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace moescope::model
