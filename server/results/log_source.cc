#include "server/results/log_source_internal.h"

#include <fcntl.h>

#include <cerrno>
#include <cstddef>

#include "absl/strings/str_cat.h"

#include "moescope/base/file.h"
#include "moescope/base/status_macros.h"

namespace moescope::internal {
namespace {

absl::Status Short(std::int64_t offset, std::int64_t count) {
  return absl::DataLossError(
      absl::StrCat("result log: the file ends before byte ", offset + count));
}

class MemorySource final : public LogSource {
 public:
  explicit MemorySource(std::shared_ptr<const std::string> bytes)
      : bytes_(std::move(bytes)) {}

  absl::StatusOr<absl::string_view> Read(std::int64_t offset,
                                         std::int64_t count) override {
    if (offset + count > static_cast<std::int64_t>(bytes_->size())) {
      return Short(offset, count);
    }
    return absl::string_view(*bytes_).substr(static_cast<std::size_t>(offset),
                                             static_cast<std::size_t>(count));
  }

 private:
  const std::shared_ptr<const std::string> bytes_;
};

class FileSource final : public LogSource {
 public:
  explicit FileSource(FileDescriptor file) : file_(std::move(file)) {}

  absl::StatusOr<absl::string_view> Read(std::int64_t offset,
                                         std::int64_t count) override {
    // Grown only once the length is known to lie in the extent (the reader
    // checks it), and kept for the records to come.
    buffer_.resize(static_cast<std::size_t>(count));
    std::int64_t done = 0;
    while (done < count) {
      const ssize_t got =
          ::pread(file_.get(), buffer_.data() + done,
                  static_cast<std::size_t>(count - done), offset + done);
      if (got < 0 && errno == EINTR) {
        continue;
      }
      if (got < 0) {
        return ErrnoStatus(errno, "read result log");
      }
      if (got == 0) {
        return Short(offset, count);
      }
      done += got;
    }
    return absl::string_view(buffer_);
  }

 private:
  const FileDescriptor file_;
  std::string buffer_;
};

class LateSource final : public LogSource {
 public:
  explicit LateSource(std::vector<std::string> paths)
      : paths_(std::move(paths)) {}

  absl::StatusOr<absl::string_view> Read(std::int64_t offset,
                                         std::int64_t count) override {
    if (file_ == nullptr) {
      MOESCOPE_ASSIGN_OR_RETURN(FileDescriptor file, OpenFirst());
      file_ = MakeFileSource(std::move(file));
    }
    return file_->Read(offset, count);
  }

 private:
  absl::StatusOr<FileDescriptor> OpenFirst() const {
    absl::Status failure = absl::NotFoundError("result log: no file");
    for (const std::string& path : paths_) {
      absl::StatusOr<FileDescriptor> file = OpenForReading(path);
      if (file.ok()) {
        return file;
      }
      failure = file.status();
      if (!absl::IsNotFound(failure)) {
        break;
      }
    }
    return failure;
  }

  const std::vector<std::string> paths_;
  std::unique_ptr<LogSource> file_;
};

}  // namespace

absl::StatusOr<FileDescriptor> OpenForReading(const std::string& path) {
  // The access time is ours: it holds when a result was last used.
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOATIME);
  if (fd < 0 && errno == EPERM) {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  }
  if (fd < 0) {
    return ErrnoStatus(errno, "open result log");
  }
  return FileDescriptor(fd);
}

absl::StatusOr<FileDescriptor> DuplicateFile(const FileDescriptor& file) {
  const int fd = ::fcntl(file.get(), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) {
    return ErrnoStatus(errno, "open result log");
  }
  return FileDescriptor(fd);
}

absl::StatusOr<FileIdentity> IdentityOf(const FileDescriptor& file) {
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) {
    return ErrnoStatus(errno, "stat result log");
  }
  FileIdentity identity;
  identity.inode = info.st_ino;
  identity.size = info.st_size;
  identity.mtime_ns =
      std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  return identity;
}

absl::Status WriteAt(const FileDescriptor& file, std::int64_t offset,
                     absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(file.get(), bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written < 0) {
      return ErrnoStatus(errno, "write result log");
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
    offset += written;
  }
  return absl::OkStatus();
}

std::unique_ptr<LogSource> MakeMemorySource(
    std::shared_ptr<const std::string> bytes) {
  return std::make_unique<MemorySource>(std::move(bytes));
}

std::unique_ptr<LogSource> MakeFileSource(FileDescriptor file) {
  return std::make_unique<FileSource>(std::move(file));
}

std::unique_ptr<LogSource> MakeLateSource(std::vector<std::string> paths) {
  return std::make_unique<LateSource>(std::move(paths));
}

}  // namespace moescope::internal
