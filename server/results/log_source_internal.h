#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope::internal {

/// An open file; closes it. Threads: as the descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }
  FileDescriptor(FileDescriptor&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

/// What tells whether a file is still the one that was looked at.
struct FileIdentity {
  std::uint64_t inode = 0;
  std::int64_t size = 0;
  std::int64_t mtime_ns = 0;
  friend bool operator==(const FileIdentity& a, const FileIdentity& b) {
    return a.inode == b.inode && a.size == b.size && a.mtime_ns == b.mtime_ns;
  }
};

/// Opens for reading without touching the time of last use. Errors: as errno
/// says.
absl::StatusOr<FileDescriptor> OpenForReading(const std::string& path);
/// A second descriptor of the same open file.
absl::StatusOr<FileDescriptor> DuplicateFile(const FileDescriptor& file);
absl::StatusOr<FileIdentity> IdentityOf(const FileDescriptor& file);
/// Writes all of `bytes` at `offset`.
absl::Status WriteAt(const FileDescriptor& file, std::int64_t offset,
                     absl::string_view bytes);

/// Where a LogReader finds the bytes of a log. Threads: one at a time.
class LogSource {
 public:
  virtual ~LogSource() = default;
  /// Exactly `count` bytes at `offset`, valid until the next call. Errors:
  /// DATA_LOSS when the file ends before, NOT_FOUND when there is none.
  virtual absl::StatusOr<absl::string_view> Read(std::int64_t offset,
                                                 std::int64_t count) = 0;
};

/// The whole file, in memory.
std::unique_ptr<LogSource> MakeMemorySource(
    std::shared_ptr<const std::string> bytes);
/// An open file.
std::unique_ptr<LogSource> MakeFileSource(FileDescriptor file);
/// The first of `paths` that is there when the first byte is asked for.
std::unique_ptr<LogSource> MakeLateSource(std::vector<std::string> paths);

}  // namespace moescope::internal
