#include "client/cli/output.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/quote_name.h"
#include "moescope/base/status_macros.h"

namespace moescope::client {
namespace {

// As many links in a row as Linux follows.
constexpr int kMaxLinks = 40;
constexpr absl::string_view kOutputPayload = "moescope/output";

struct Target {
  std::string path;
  /// A stream: its place is kept, since others hold it open.
  bool in_place = false;
};

absl::Status Refused(const std::string& path, absl::string_view why) {
  return InvalidField("-o", absl::StrCat(QuoteName(path), " ", why));
}

// Where the links of `path`, whose last names nothing, lead.
absl::StatusOr<std::string> EndOfLinks(const std::string& path) {
  std::filesystem::path at(path);
  std::error_code ignored;
  for (int i = 0; std::filesystem::is_symlink(at, ignored); ++i) {
    std::error_code error;
    const std::filesystem::path next = std::filesystem::read_symlink(at, error);
    if (error || i == kMaxLinks) {
      return Refused(path, "is a link that leads nowhere");
    }
    at = at.parent_path() / next;  // An absolute `next` stands alone.
  }
  return at.string();
}

absl::StatusOr<Target> FindTarget(const std::string& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) {
    MOESCOPE_ASSIGN_OR_RETURN(std::string end, EndOfLinks(path));
    return Target{std::move(end), false};
  }
  if (S_ISDIR(found.st_mode)) {
    return Refused(path, "is a folder");
  }
  if (S_ISFIFO(found.st_mode) || S_ISCHR(found.st_mode)) {
    return Target{path, true};
  }
  if (!S_ISREG(found.st_mode)) {
    return Refused(path, "is neither a file nor a FIFO or character device");
  }
  std::error_code error;
  const std::filesystem::path file = std::filesystem::canonical(path, error);
  // A file without a name, as /dev/stdout may be, has no other place.
  return error ? Target{path, true} : Target{file.string(), false};
}

absl::Status OutputError(absl::Status status) {
  status.SetPayload(kOutputPayload, absl::Cord());
  return status;
}

absl::Status WriteInPlace(const std::string& path, absl::string_view bytes) {
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) {
    return ErrnoStatus(errno, path);
  }
  int error = 0;
  if (std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size()) {
    error = errno;
  }
  if (std::fclose(file) != 0 && error == 0) {
    error = errno;
  }
  return error == 0 ? absl::OkStatus() : ErrnoStatus(error, path);
}

}  // namespace

absl::Status CheckOutputFile(const std::string& path) {
  MOESCOPE_ASSIGN_OR_RETURN(const Target target, FindTarget(path));
  if (::access(target.path.c_str(), F_OK) == 0 &&
      ::access(target.path.c_str(), W_OK) != 0) {
    return Refused(path, absl::StrCat("can't be written to: ",
                                      std::strerror(errno)));
  }
  const std::filesystem::path parent =
      std::filesystem::path(target.path).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  if (!target.in_place && ::access(folder.c_str(), W_OK | X_OK) != 0) {
    return InvalidField("-o",
                        absl::StrCat("folder ", QuoteName(folder),
                                     " can't be written to: ",
                                     std::strerror(errno)));
  }
  return absl::OkStatus();
}

absl::Status WriteOutputFile(const std::string& path, absl::string_view bytes) {
  MOESCOPE_ASSIGN_OR_RETURN(const Target target, FindTarget(path));
  const absl::Status written = target.in_place
                                   ? WriteInPlace(target.path, bytes)
                                   : WriteFileAtomically(target.path, bytes);
  return written.ok() ? written : OutputError(Annotate(written, "-o"));
}

absl::Status WriteStandardOutput(absl::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
      std::fflush(stdout) == 0) {
    return absl::OkStatus();
  }
  return OutputError(ErrnoStatus(errno, "standard output"));
}

bool IsOutputError(const absl::Status& status) {
  return status.GetPayload(kOutputPayload).has_value();
}

}  // namespace moescope::client
