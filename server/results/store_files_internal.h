#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace moescope::internal {

/// INVALID_ARGUMENT (field "key") unless `key` is 64 lower-case hex digits.
absl::Status CheckKey(absl::string_view key);
/// INVALID_ARGUMENT (field "fence") below 0.
absl::Status CheckFence(std::int64_t fence);

/// A file of `running/`.
struct RunningFile {
  std::string path;
  std::string key;
  std::int64_t fence = 0;
  /// A saved state; else a log.
  bool is_state = false;
  /// Left by a write that was interrupted; fence and is_state mean nothing.
  bool is_temporary = false;
  absl::Time modified;
};

/// A file of `sealed/`.
struct SealedFile {
  std::string key;
  std::int64_t bytes = 0;
  /// Kept in the file's access time.
  absl::Time last_used;
};

/// The names and the order of the store's folder. Threads: safe.
class StoreFiles {
 public:
  static absl::StatusOr<StoreFiles> Open(const std::string& dir);

  const std::string& running_folder() const { return running_; }
  const std::string& sealed_folder() const { return sealed_; }
  std::string RunningLog(absl::string_view key, std::int64_t fence) const;
  std::string RunningState(absl::string_view key, std::int64_t fence) const;
  std::string SealedLog(absl::string_view key) const;

  /// What lies in `running/`; files with other names are left out.
  absl::StatusOr<std::vector<RunningFile>> ListRunning() const;
  absl::StatusOr<std::vector<SealedFile>> ListSealed() const;
  /// nullopt when there is no such file.
  std::optional<SealedFile> FindSealed(absl::string_view key) const;
  /// Remembers when a sealed log was last used; a failure costs only order.
  void Touch(absl::string_view key, absl::Time now) const;

 private:
  std::string running_;
  std::string sealed_;
};

/// A failure of the store's own files as it may reach a client:
/// RESOURCE_EXHAUSTED (disk full) or INTERNAL, with `what` for a message. The
/// original, which may show where the store lies, goes to the log.
absl::Status WithoutPath(const absl::Status& status, absl::string_view what);

/// SyncDirectory, without a path in its error.
absl::Status SyncFolder(const std::string& path);

/// Removes a file; fine when it is gone.
absl::Status RemoveFile(const std::string& path);

}  // namespace moescope::internal
