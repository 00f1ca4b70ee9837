#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "moescope/base/clock.h"
#include "moescope/results/result_log.h"

namespace moescope {

/// Where an execution that was interrupted had come: the fence under which it
/// wrote and the extent that its row holds.
struct PreviousLog {
  std::int64_t fence = 0;
  LogExtent extent;
};

/// A log ready for appending; `writer->extent()` is what it starts with.
struct StartedLog {
  std::unique_ptr<LogWriter> writer;
  /// OK, or why the previous log could not be continued (DATA_LOSS, NOT_FOUND);
  /// then the new one is empty.
  absl::Status previous;
};

/// The resume snapshot of an execution; what its bytes mean is the analysis's
/// own business.
struct SavedState {
  /// The fence under which it was saved.
  std::int64_t fence = 0;
  /// Records that the log held (committed) when the state was taken.
  std::int64_t records = 0;
  std::string bytes;
};

/// What Evict did.
struct EvictionReport {
  /// Keys that were dropped, least recently used first.
  std::vector<std::string> dropped;
  std::int64_t dropped_bytes = 0;
  /// By how much pinned and open logs alone exceed the limit; 0: none.
  std::int64_t bytes_over_limit = 0;
};

/// Counters since Open, and sizes now.
struct ResultStoreStats {
  std::int64_t memory_hits = 0;
  std::int64_t disk_hits = 0;
  std::int64_t misses = 0;
  /// Sealed logs and states that were damaged and dropped.
  std::int64_t corrupt = 0;
  std::int64_t memory_evictions = 0;
  std::int64_t disk_evictions = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t memory_entries = 0;
  /// Sealed logs only; those of running executions come on top.
  std::int64_t disk_bytes = 0;
  std::int64_t disk_entries = 0;
};

/// Logs by key in one folder, in a tier of memory and a tier of disk. Knows
/// bytes, not what they mean; which logs exist for whom, which are pinned and
/// how far a running one is committed is kept by the caller.
///
/// A log is written as `running/<key>.<fence>.log` and becomes
/// `sealed/<key>.log` when it is complete. A worker that lost its lease may go
/// on writing under its old fence and harms nobody. A key is 64 lower-case hex
/// digits; anything else is INVALID_ARGUMENT (field "key"), so no key leads out
/// of the folder. Several processes may share the folder: a sealed log is
/// found although another one wrote it.
/// Threads: safe.
class ResultStore {
 public:
  struct Options {
    /// Made if it does not exist.
    std::string dir;
    /// Limit of the memory tier. Logs above an eighth of it stay on disk.
    std::int64_t memory_bytes = std::int64_t{256} << 20;
    /// Limit of the sealed logs on disk; kept by Evict.
    std::int64_t disk_bytes = std::int64_t{20} << 30;
    /// Sealed logs not used for longer are dropped by Evict.
    absl::Duration max_age = absl::InfiniteDuration();
    /// See Evict.
    absl::Duration passing_age = absl::Minutes(10);
  };

  /// Takes up the folder as it was left. `clock` must outlive the store.
  /// Errors: INVALID_ARGUMENT (options), PERMISSION_DENIED, INTERNAL.
  static absl::StatusOr<std::unique_ptr<ResultStore>> Open(Options options,
                                                           Clock& clock);
  ~ResultStore();
  ResultStore(const ResultStore&) = delete;
  ResultStore& operator=(const ResultStore&) = delete;

  // --- Writing -------------------------------------------------------------

  /// Starts the log of `key` under `fence`. With `previous`, the records up to
  /// its extent are verified (CRC, digest) and copied; when they do not hold,
  /// the log starts empty and the answer says why. A file that an earlier try
  /// left under the same fence is replaced.
  /// Errors: INVALID_ARGUMENT (key; fence negative or that of `previous`),
  /// RESOURCE_EXHAUSTED (disk full), INTERNAL.
  absl::StatusOr<StartedLog> StartLog(
      absl::string_view key, std::int64_t fence,
      const std::optional<PreviousLog>& previous = std::nullopt);

  /// Commits what is pending and moves the log to its final place; durable on
  /// return. The caller records the extent, then calls DiscardRunning.
  /// Errors: as Commit.
  absl::StatusOr<LogExtent> Seal(std::unique_ptr<LogWriter> writer);

  /// Keeps `bytes` as the latest state of the execution, replacing the one of
  /// this fence; all or nothing. Save it after the `records` records that it
  /// counts on are committed.
  absl::Status SaveState(absl::string_view key, std::int64_t fence,
                         std::int64_t records, absl::string_view bytes);

  /// The state saved under the highest fence up to `fence`; nullopt when there
  /// is none. A damaged one is dropped, counted and passed over.
  absl::StatusOr<std::optional<SavedState>> LoadState(absl::string_view key,
                                                      std::int64_t fence);

  // --- Reading -------------------------------------------------------------

  /// Opens a finished log at record `first_record`. Its first reading by this
  /// store (and each after the file has changed) verifies all of it.
  /// Errors: NOT_FOUND; DATA_LOSS when it is damaged: it is then dropped, and
  /// the caller computes it again; OUT_OF_RANGE (field "first_record") above
  /// the number of records.
  absl::StatusOr<std::unique_ptr<LogReader>> OpenSealed(
      absl::string_view key, const LogExtent& extent,
      std::int64_t first_record = 0);

  /// Opens the log of a running execution, up to what its row says; follow it
  /// with LogReader::ExtendTo. Also finds it when it was sealed meanwhile.
  /// `first_record` may lie ahead of what is committed.
  absl::StatusOr<std::unique_ptr<LogReader>> OpenRunning(
      absl::string_view key, std::int64_t fence, const LogExtent& extent,
      std::int64_t first_record = 0);

  /// Whether a sealed log of `key` is there (unverified).
  bool HasSealed(absl::string_view key);

  // --- Retention -----------------------------------------------------------

  /// Removes everything of `key`; fine when there is nothing. Open readers
  /// stay valid.
  absl::Status Remove(absl::string_view key);

  /// Removes logs and states that `key` left under fences up to `fence`; called
  /// once the extent of a sealed log is recorded.
  absl::Status DiscardRunning(absl::string_view key, std::int64_t fence);

  /// Removes the running logs and states of keys that are not in `live` and
  /// were last written before `before` (wall clock of the file system). While
  /// executions may be added, pass a time before `live` was asked for.
  absl::Status RemoveStale(const std::set<std::string>& live,
                           absl::Time before = absl::InfiniteFuture());

  /// Drops sealed logs that are too old, then the least recently used until
  /// the rest fits into `disk_bytes` of the options less `reserve_bytes`; of
  /// `passing` also those that this process has read, once nobody has opened
  /// them for `passing_age` of the options. Never one in `pinned` or with an open
  /// reader.
  absl::StatusOr<EvictionReport> Evict(
      const std::set<std::string>& pinned, std::int64_t reserve_bytes = 0,
      const std::set<std::string>& passing = {});

  ResultStoreStats stats() const;

 private:
  struct State;
  explicit ResultStore(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace moescope
