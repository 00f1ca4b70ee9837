#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope {

/// What tells one state of a file from another without reading it.
struct FileStamp {
  /// Absolute, links resolved.
  std::string path;
  std::int64_t size_bytes = 0;
  std::int64_t mtime_ns = 0;
  std::int64_t ctime_ns = 0;
  std::int64_t inode = 0;

  friend bool operator==(const FileStamp& a, const FileStamp& b) {
    return a.path == b.path && a.size_bytes == b.size_bytes &&
           a.mtime_ns == b.mtime_ns && a.ctime_ns == b.ctime_ns &&
           a.inode == b.inode;
  }
};

/// A file mapped read-only, without copying.
///
/// Bytes that are no longer behind the mapping (the file was cut short, its
/// disk fails) read as zeros from the first such page on, instead of ending the
/// process with SIGBUS; CheckIntact then says so for ever. So whoever reads asks
/// CheckIntact after reading and before using what was made of it. The first
/// Open installs a handler of SIGBUS that leaves all other addresses to the one
/// before it.
/// Threads: safe.
class MappedFile {
 public:
  /// Maps the whole file. Messages name its last path component.
  /// Errors: NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED, INTERNAL;
  /// DATA_LOSS for what is no regular file.
  static absl::StatusOr<std::unique_ptr<const MappedFile>> Open(
      const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  absl::string_view bytes() const { return bytes_; }
  /// As given to Open.
  const std::string& path() const { return path_; }
  /// The file as it was when it was opened.
  const FileStamp& stamp() const { return stamp_; }

  /// OK when all that was read so far is what the file held at Open.
  /// Errors: DATA_LOSS reason FILE_CHANGED, naming the file: it was cut short,
  /// written to, or could not be read. A file that was replaced or removed is
  /// still mapped as it was.
  absl::Status CheckIntact() const;

  /// For the handler alone.
  struct Region;

 private:
  MappedFile() = default;
  absl::Status Damaged(absl::string_view how) const;

  std::string path_;
  std::string name_;
  FileStamp stamp_;
  absl::string_view bytes_;
  std::unique_ptr<Region> region_;
};

}  // namespace moescope
