#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "moescope/base/run_context.h"

namespace moescope {

/// QUEUED → RUNNING → SUCCEEDED | FAILED | CANCELLED → EXPIRED; the only way
/// back is RUNNING → QUEUED, when a worker is lost or drains. The numbers are
/// stored: never change one.
enum class JobState {
  kQueued = 1,
  kRunning = 2,
  kSucceeded = 3,
  kFailed = 4,
  kCancelled = 5,
  kExpired = 6,
};

/// Stored as well.
enum class Priority { kInteractive = 1, kBatch = 2 };

/// "queued", "running", …
absl::string_view JobStateName(JobState state);
/// "interactive", "batch".
absl::string_view PriorityName(Priority priority);
/// Whether nothing more will happen to a job or execution in `state`.
bool IsFinished(JobState state);

/// What a client asked for. `sequence` starts at 1 and rises by each change
/// that a watcher can see.
struct JobRecord {
  /// UUID of version 7.
  std::string id;
  std::string client;
  std::string request_id;
  std::string request_hash;
  std::string analysis;
  std::int64_t analysis_version = 0;
  /// Opaque bytes.
  std::string spec;
  /// Of the computation; also names its result.
  std::string key;
  Priority priority = Priority::kBatch;
  std::string lane;
  JobState state = JobState::kQueued;
  std::int64_t sequence = 0;
  absl::Time create_time;
  /// Of the first attempt.
  std::optional<absl::Time> start_time;
  std::optional<absl::Time> finish_time;
  std::optional<absl::Time> deadline;
  /// Set for a direct call: the job ends when its caller is gone until then.
  std::optional<absl::Time> caller_expires;
  /// How many times work on it was begun.
  std::int64_t attempt = 0;
  /// Empty when the answer was there already.
  std::string execution_id;
  Progress progress;
  /// When the present attempt is expected to end, judging by its progress;
  /// unset: not known.
  std::optional<absl::Time> expected_end;
  double estimated_seconds = 0;
  /// Of the attempt that ended it, also where the job joined later.
  double real_seconds = 0;
  /// Key of the result row; empty unless SUCCEEDED with a result.
  std::string result_key;
  /// OK unless FAILED or CANCELLED; with its details (base/error.h).
  absl::Status error;
  std::string traceparent;
  std::string server_version;
};

/// What an execution has made durable. Readers obey this and not the size of
/// a file.
struct Committed {
  std::int64_t records = 0;
  std::int64_t bytes = 0;
  /// Of these bytes.
  std::string digest;
  /// Names, with the key, the log file that holds them; set by the store.
  std::int64_t fence = 0;
  /// Where the saved state lets the work go on; the store does not read it.
  std::string resume_position;
};

/// The work under a key; any number of jobs wait for it. It never EXPIREs.
struct ExecutionRecord {
  std::string id;
  std::string key;
  /// Of the job that created it; what fairness is counted by.
  std::string client;
  std::string analysis;
  std::int64_t analysis_version = 0;
  std::string spec;
  /// Empty: any worker may take it.
  std::string numerics_class;
  std::string lane;
  /// What it is better to have loaded already, e.g. a model's name; a hint.
  std::string affinity;
  Priority priority = Priority::kBatch;
  JobState state = JobState::kQueued;
  /// Consecutive attempts, with the present one, that committed nothing.
  std::int64_t attempt = 0;
  std::string owner;
  std::optional<absl::Time> lease_until;
  /// Rises by every claim; 0 before the first.
  std::int64_t fence = 0;
  Committed committed;
  Progress progress;
  /// As in JobRecord.
  std::optional<absl::Time> expected_end;
  double estimated_seconds = 0;
  /// Of the job that created it.
  std::string traceparent;
  absl::Time create_time;
  /// Of the latest attempt.
  std::optional<absl::Time> start_time;
  std::optional<absl::Time> finish_time;
};

/// A finished answer: where it is filed and what proves it whole.
struct ResultRow {
  std::string key;
  /// Other keys under which the same answer is to be found; empty in rows that
  /// are read.
  std::vector<std::string> alias_keys;
  std::string analysis;
  std::int64_t bytes = 0;
  std::int64_t records = 0;
  std::string digest;
  /// Opaque bytes.
  std::string provenance;
  absl::Time created;
  absl::Time last_used;
};

}  // namespace moescope
