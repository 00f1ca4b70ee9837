#include "server/results/store_files_internal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/log.h"
#include "moescope/base/status_macros.h"

namespace moescope::internal {
namespace {

constexpr std::size_t kKeyDigits = 64;
constexpr absl::string_view kLogEnding = ".log";
constexpr absl::string_view kStateEnding = ".state";
constexpr absl::string_view kTemporaryEnding = ".tmp";

bool IsKey(absl::string_view key) {
  if (key.size() != kKeyDigits) {
    return false;
  }
  for (const char c : key) {
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
      return false;
    }
  }
  return true;
}

// "<key>.<fence>.log", "<key>.<fence>.state", "<key>.<…>.tmp".
std::optional<RunningFile> ParseRunning(absl::string_view name) {
  if (name.size() < kKeyDigits + 1 || !IsKey(name.substr(0, kKeyDigits)) ||
      name[kKeyDigits] != '.') {
    return std::nullopt;
  }
  RunningFile file;
  file.key = std::string(name.substr(0, kKeyDigits));
  absl::string_view rest = name.substr(kKeyDigits + 1);
  if (absl::EndsWith(rest, kTemporaryEnding)) {
    file.is_temporary = true;
    return file;
  }
  file.is_state = absl::ConsumeSuffix(&rest, kStateEnding);
  if (!file.is_state && !absl::ConsumeSuffix(&rest, kLogEnding)) {
    return std::nullopt;
  }
  if (!absl::SimpleAtoi(rest, &file.fence) || file.fence < 0) {
    return std::nullopt;
  }
  return file;
}

absl::StatusOr<std::vector<std::string>> FileNames(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  while (!error && entry != std::filesystem::directory_iterator()) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
  }
  if (error) {
    return ErrnoStatus(error.value(), "list results");
  }
  return names;
}

}  // namespace

absl::Status CheckKey(absl::string_view key) {
  if (IsKey(key)) {
    return absl::OkStatus();
  }
  return InvalidField(
      "key", absl::StrCat(key.size(),
                          " bytes that are not 64 lower-case hex digits"));
}

absl::Status CheckFence(std::int64_t fence) {
  if (fence >= 0) {
    return absl::OkStatus();
  }
  return InvalidField("fence", absl::StrCat(fence, " is below 0"));
}

absl::StatusOr<StoreFiles> StoreFiles::Open(const std::string& dir) {
  StoreFiles files;
  files.running_ = absl::StrCat(dir, "/running");
  files.sealed_ = absl::StrCat(dir, "/sealed");
  MOESCOPE_RETURN_IF_ERROR(MakeDirectories(files.running_));
  MOESCOPE_RETURN_IF_ERROR(MakeDirectories(files.sealed_));
  MOESCOPE_RETURN_IF_ERROR(SyncDirectory(dir));
  return files;
}

std::string StoreFiles::RunningLog(absl::string_view key,
                                   std::int64_t fence) const {
  return absl::StrCat(running_, "/", key, ".", fence, kLogEnding);
}

std::string StoreFiles::RunningState(absl::string_view key,
                                     std::int64_t fence) const {
  return absl::StrCat(running_, "/", key, ".", fence, kStateEnding);
}

std::string StoreFiles::SealedLog(absl::string_view key) const {
  return absl::StrCat(sealed_, "/", key, kLogEnding);
}

absl::StatusOr<std::vector<RunningFile>> StoreFiles::ListRunning() const {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                            FileNames(running_));
  std::vector<RunningFile> files;
  for (const std::string& name : names) {
    std::optional<RunningFile> file = ParseRunning(name);
    if (!file.has_value()) {
      continue;
    }
    file->path = absl::StrCat(running_, "/", name);
    struct stat info {};
    if (::stat(file->path.c_str(), &info) != 0) {
      continue;  // Gone since it was listed.
    }
    file->modified = absl::TimeFromTimespec(info.st_mtim);
    files.push_back(*std::move(file));
  }
  return files;
}

std::optional<SealedFile> StoreFiles::FindSealed(absl::string_view key) const {
  struct stat info {};
  if (::stat(SealedLog(key).c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return std::nullopt;
  }
  SealedFile file;
  file.key = std::string(key);
  file.bytes = info.st_size;
  file.last_used = absl::TimeFromTimespec(info.st_atim);
  return file;
}

absl::StatusOr<std::vector<SealedFile>> StoreFiles::ListSealed() const {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                            FileNames(sealed_));
  std::vector<SealedFile> files;
  for (const std::string& name : names) {
    absl::string_view key = name;
    if (!absl::ConsumeSuffix(&key, kLogEnding) || !IsKey(key)) {
      continue;
    }
    if (std::optional<SealedFile> file = FindSealed(key)) {
      files.push_back(*std::move(file));
    }
  }
  return files;
}

void StoreFiles::Touch(absl::string_view key, absl::Time now) const {
  std::array<timespec, 2> times{};
  times[0] = absl::ToTimespec(now);
  times[1].tv_nsec = UTIME_OMIT;
  (void)::utimensat(AT_FDCWD, SealedLog(key).c_str(), times.data(), 0);
}

absl::Status WithoutPath(const absl::Status& status, absl::string_view what) {
  if (status.ok()) {
    return status;
  }
  Log(LogLevel::kError, "result_file_failed",
      {{"what", what}, {"error", status.ToString()}});
  // Nothing that a client named is missing or forbidden: it is the store's own.
  return absl::Status(absl::IsResourceExhausted(status)
                          ? absl::StatusCode::kResourceExhausted
                          : absl::StatusCode::kInternal,
                      absl::StrCat(what, " failed; the server's log says more"));
}

absl::Status SyncFolder(const std::string& path) {
  return WithoutPath(SyncDirectory(path), "sync result folder");
}

absl::Status RemoveFile(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, "remove result");
  }
  return absl::OkStatus();
}

}  // namespace moescope::internal
