#pragma once

#include <fstream>
#include <iterator>
#include <string>

namespace moescope {

inline std::string FileBytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

inline void WriteBytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

/// Key made of one digit 64 times.
inline std::string Key(char digit) { return std::string(64, digit); }

}  // namespace moescope
