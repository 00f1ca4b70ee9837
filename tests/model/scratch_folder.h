#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

namespace moescope::model {

/// A fresh folder of its own for one test, removed with it.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = ::testing::TempDir() + "/moescope_model_XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  std::string path() const { return path_; }
  std::string operator/(const std::string& name) const {
    return path_ + "/" + name;
  }
  /// Writes `bytes` to `name`, making folders on the way.
  std::string Write(const std::string& name, const std::string& bytes) const {
    const std::filesystem::path file = path_ + "/" + name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << bytes;
    return file.string();
  }
  /// Copies a folder of tests/testdata to `name`.
  std::string CopyTestdata(const std::string& source,
                           const std::string& name) const {
    std::filesystem::create_directories(path_);
    std::filesystem::copy(MOESCOPE_SOURCE_DIR "/tests/testdata/" + source,
                          path_ + "/" + name,
                          std::filesystem::copy_options::recursive);
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

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
