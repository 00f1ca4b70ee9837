#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include <gtest/gtest.h>

namespace moescope {

/// A fresh folder of its own for one test, removed with it.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = ::testing::TempDir() + "moescope_XXXXXX";
    const char* const made = mkdtemp(pattern.data());
    EXPECT_NE(made, nullptr) << pattern;
    path_ = pattern;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }
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

}  // namespace moescope
