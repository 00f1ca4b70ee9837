#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "tests/fuzz/expect.h"

namespace moescope::fuzz {

/// A file of these bytes that lies in memory alone, as long as this lives.
class MemoryFile {
 public:
  MemoryFile(const unsigned char* data, std::size_t size)
      : descriptor_(memfd_create("fuzz", MFD_CLOEXEC)) {
    Expect(descriptor_ >= 0, "memfd_create works");
    Expect(write(descriptor_, data, size) == static_cast<ssize_t>(size),
           "the file takes its bytes");
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const {
    return "/proc/self/fd/" + std::to_string(descriptor_);
  }

 private:
  const int descriptor_;
};

}  // namespace moescope::fuzz
