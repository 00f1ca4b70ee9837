#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "moescope/base/clock.h"
#include "moescope/base/mutex.h"
#include "moescope/results/result_store.h"
#include "server/results/log_source_internal.h"
#include "server/results/memory_tier_internal.h"
#include "server/results/store_files_internal.h"

namespace moescope {

struct ResultStore::State {
  /// What is known of a sealed log.
  struct Entry {
    std::int64_t bytes = 0;
    absl::Time last_used;
    bool was_read = false;
    /// When the file last learned of it.
    absl::Time touched = absl::InfinitePast();
    /// What was found in order, and on which file.
    std::optional<std::pair<LogExtent, internal::FileIdentity>> verified;
    /// Alive while a reader is.
    std::weak_ptr<const void> readers;
  };

  State(Options options_in, internal::StoreFiles files_in, Clock& clock_in)
      : options(std::move(options_in)),
        files(std::move(files_in)),
        clock(clock_in),
        memory(options.memory_bytes) {}

  const Options options;
  const internal::StoreFiles files;
  Clock& clock;

  mutable Mutex mutex;
  std::map<std::string, Entry, std::less<>> sealed ABSL_GUARDED_BY(mutex);
  internal::MemoryTier memory ABSL_GUARDED_BY(mutex);
  /// All but what is counted elsewhere.
  ResultStoreStats stats ABSL_GUARDED_BY(mutex);

  /// Marks the log as used now and open; nullptr when there is none.
  std::shared_ptr<const void> UseSealed(absl::string_view key);
  /// Forgets and removes a log that is not what `extent` says.
  void DropDamaged(absl::string_view key, const absl::Status& why);
  /// Makes the index the same as the folder.
  absl::Status RefreshSealed();
  /// Verifies the open file unless that was done; the bytes when they go into
  /// the memory tier, nullptr otherwise.
  absl::StatusOr<std::shared_ptr<const std::string>> VerifySealed(
      absl::string_view key, const LogExtent& extent,
      const internal::FileDescriptor& file);
};

namespace internal {

/// Reads the log from `source` to the end of `extent` and compares its digest;
/// shows every payload to `on_record`, if there is one. Errors: DATA_LOSS; what
/// reading or `on_record` returned.
absl::Status VerifyLog(
    std::unique_ptr<LogSource> source, absl::string_view key,
    const LogExtent& extent,
    const std::function<absl::Status(absl::string_view)>& on_record);

}  // namespace internal
}  // namespace moescope
