#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "moescope/jobs/job.h"
#include "moescope/jobs/scheduling_policy.h"

namespace moescope {

/// What every kind of store is bounded by.
struct JobStoreLimits {
  std::int64_t max_queued_jobs = 1000;
  absl::Duration max_queued_work = absl::Hours(48);
  /// Consecutive attempts that commit nothing before WORKER_LOST.
  std::int64_t max_attempts = 5;
  /// A finished job becomes EXPIRED after this and is gone after twice this.
  absl::Duration job_retention = absl::Hours(24 * 7);
  SchedulingOptions scheduling;
};

struct SubmitRequest {
  std::string client;
  /// Empty: this submit is never taken for a repetition.
  std::string request_id;
  std::string request_hash;
  std::string analysis;
  std::int64_t analysis_version = 0;
  std::string spec;
  std::string key;
  std::string numerics_class;
  std::string lane;
  std::string affinity;
  Priority priority = Priority::kBatch;
  std::optional<absl::Time> deadline;
  std::optional<absl::Time> caller_expires;
  double estimated_seconds = 0;
  /// Take a result that is there.
  bool use_result = true;
  /// NOT_FOUND RESULT_NOT_CACHED rather than new work.
  bool require_result = false;
  /// Share the execution with other jobs of the same key.
  bool share = true;
  std::string traceparent;
  std::string server_version;
};

/// What a submit came to.
enum class SubmitOutcome { kRepeated, kCached, kJoined, kQueued };

struct SubmitReply {
  JobRecord job;
  SubmitOutcome outcome = SubmitOutcome::kQueued;
};

struct JobFilter {
  /// Unset: any.
  std::optional<std::string> client;
  std::optional<JobState> state;
  std::optional<std::string> analysis;
};

struct JobPage {
  std::vector<JobRecord> jobs;
  /// Empty on the last page.
  std::string next_page_token;
};

struct AnalysisVersion {
  std::string analysis;
  std::int64_t version = 0;
};

struct ClaimRequest {
  std::string owner;
  /// Lanes with a free place.
  std::vector<std::string> lanes;
  /// What this worker computes. Empty: whatever there is.
  std::vector<std::string> numerics_classes;
  std::vector<AnalysisVersion> analyses;
  /// See ExecutionRecord::affinity.
  std::vector<std::string> warm;
  absl::Time lease_until;
};

/// What a queued execution becomes when it is worked on elsewhere than meant.
struct Rekeyed {
  std::string key;
  std::string numerics_class;
  std::int64_t analysis_version = 0;
};

struct SweepReport {
  std::int64_t deadlines_passed = 0;
  std::int64_t callers_gone = 0;
  /// Executions that went back to the queue because their lease ran out.
  std::int64_t requeued = 0;
  /// Executions given up as WORKER_LOST.
  std::int64_t lost = 0;
  /// Finished jobs that became EXPIRED.
  std::int64_t expired = 0;
};

/// What a worker shows of its execution.
struct ProgressReport {
  Progress progress;
  std::optional<absl::Time> expected_end;
};

/// What waits and what runs.
struct QueueOrder {
  struct Queued {
    std::string execution_id;
    std::string lane;
    double estimated_seconds = 0;
  };
  struct Running {
    std::string lane;
    /// Estimated: by its progress where there is any, else by its cost.
    double remaining_seconds = 0;
  };
  /// In the order of StartOrder (scheduling_policy.h), lanes mixed.
  std::vector<Queued> queued;
  std::vector<Running> running;
};

struct QueueStats {
  struct Queued {
    std::string analysis;
    Priority priority = Priority::kBatch;
    std::int64_t count = 0;
  };
  struct Running {
    std::string analysis;
    std::int64_t count = 0;
  };
  /// Queued jobs.
  std::vector<Queued> queued;
  /// Running executions.
  std::vector<Running> running;
  absl::Duration oldest_age;
  /// Estimated work of the queued executions.
  absl::Duration queued_work;
};

/// The durable queue: jobs, executions and the rows of finished results. Every
/// call is one transaction, on disk before it returns; time comes from the
/// caller. `now` is never ahead of what the clock of the caller shows.
/// Errors of any call, when the store itself fails: RESOURCE_EXHAUSTED (disk
/// full), UNAVAILABLE (locked by another process), DATA_LOSS (damaged), else
/// INTERNAL. "Fenced" below: FAILED_PRECONDITION with reason FENCED,
/// the execution is no longer the caller's.
/// Threads: safe.
class JobStore {
 public:
  virtual ~JobStore() = default;

  /// Idempotent by (client, request_id): the same hash gives the same job
  /// again. Errors: ALREADY_EXISTS REQUEST_ID_REUSED for another hash,
  /// RESOURCE_EXHAUSTED QUEUE_FULL with a time to retry after, NOT_FOUND
  /// RESULT_NOT_CACHED.
  virtual absl::StatusOr<SubmitReply> Submit(const SubmitRequest& request,
                                             absl::Time now) = 0;
  /// Errors: NOT_FOUND, field "id" (as of every call that is given a job's id).
  virtual absl::StatusOr<JobRecord> GetJob(absl::string_view job_id) = 0;
  /// Newest first, at most `page_size` (1..1000, else clamped). Errors:
  /// INVALID_ARGUMENT for a token that this call did not make.
  virtual absl::StatusOr<JobPage> ListJobs(const JobFilter& filter,
                                           std::int64_t page_size,
                                           absl::string_view page_token) = 0;
  /// A live job of `key`, a running one first; nothing when there is none.
  virtual absl::StatusOr<std::optional<JobRecord>> FindLiveJob(
      absl::string_view key) = 0;
  /// Keys of all live jobs.
  virtual absl::StatusOr<std::set<std::string>> LiveKeys() = 0;
  /// Keys of results of executions that are not shared: they serve nobody but
  /// the jobs that asked for them.
  virtual absl::StatusOr<std::set<std::string>> UnsharedResults() = 0;
  /// Ends a live job with `reason` (a CANCELLED status); returns a finished one
  /// as it is. Work that no live job refers to any more is unwanted: queued it
  /// is CANCELLED at once, running its worker is told. Errors: NOT_FOUND.
  virtual absl::StatusOr<JobRecord> CancelJob(absl::string_view job_id,
                                              const absl::Status& reason,
                                              absl::Time now) = 0;
  /// The caller of a direct call was there at `now`, good until `until`.
  /// `until` unset: the job no longer depends on a caller. Errors: NOT_FOUND.
  virtual absl::Status TouchCaller(absl::string_view job_id,
                                   std::optional<absl::Time> until,
                                   absl::Time now) = 0;
  /// Does what time has made due: deadlines, callers that left, leases that ran
  /// out, retention.
  virtual absl::StatusOr<SweepReport> Sweep(absl::Time now) = 0;

  /// The piece of work to do next (scheduling_policy.h), now RUNNING and owned
  /// by the caller under a new fence; nothing when there is none to be had.
  virtual absl::StatusOr<std::optional<ExecutionRecord>> Claim(
      const ClaimRequest& request, absl::Time now) = 0;
  /// Errors: NOT_FOUND.
  virtual absl::StatusOr<ExecutionRecord> GetExecution(
      absl::string_view execution_id) = 0;
  /// Prolongs the lease and, where given, shows the report. Returns whether
  /// the work is still wanted. Errors: fenced.
  virtual absl::StatusOr<bool> Heartbeat(
      absl::string_view execution_id, std::int64_t fence,
      absl::Time lease_until, const std::optional<ProgressReport>& report) = 0;
  /// Records how much of the log is durable. Returns whether the work is still
  /// wanted. Errors: fenced.
  virtual absl::StatusOr<bool> Commit(absl::string_view execution_id,
                                      std::int64_t fence,
                                      const Committed& committed) = 0;
  /// Ends the execution and every live job of it: SUCCEEDED with `result`
  /// (which is filed, also when nobody waits any more; unset for work that
  /// leaves none) or FAILED with `status`. Errors: fenced.
  virtual absl::Status Finish(absl::string_view execution_id,
                              std::int64_t fence, const absl::Status& status,
                              const std::optional<ResultRow>& result,
                              absl::Time now) = 0;
  /// Hands the work back to the queue; the attempt does not count. CANCELLED
  /// instead when it is unwanted. Errors: fenced.
  virtual absl::Status Release(absl::string_view execution_id,
                               std::int64_t fence, absl::Time now) = 0;
  /// For a store of one process, at its start: whatever runs is nobody's.
  /// Returns how many executions went back to the queue.
  virtual absl::StatusOr<std::int64_t> RequeueOwnedByOthers(
      absl::string_view owner, absl::Time now) = 0;
  /// Queued executions in the lanes of `request` that Claim never gives it:
  /// they are of another numerics class or of another version of an analysis.
  virtual absl::StatusOr<std::vector<std::string>> ListUnserved(
      const ClaimRequest& request) = 0;
  /// Gives a queued execution and its live jobs another key; it starts anew,
  /// nothing that it has committed counts any more. Where work under that key
  /// is shared and under way, its jobs join that instead. Errors: NOT_FOUND;
  /// FAILED_PRECONDITION NOT_QUEUED.
  virtual absl::Status Rekey(absl::string_view execution_id,
                             const Rekeyed& rekeyed, absl::Time now) = 0;
  /// Running executions of `owner` that no live job refers to.
  virtual absl::StatusOr<std::vector<std::string>> ListUnwanted(
      absl::string_view owner) = 0;

  /// By its key or an alias. Errors: NOT_FOUND.
  virtual absl::StatusOr<ResultRow> GetResult(absl::string_view key) = 0;
  /// Lets the result of `key` be found under `alias`, too. Errors: NOT_FOUND.
  virtual absl::Status AddResultAlias(absl::string_view key,
                                      absl::string_view alias) = 0;
  /// Removes row and aliases; fine when there is none. SUCCEEDED jobs of that
  /// result become EXPIRED.
  virtual absl::Status DeleteResult(absl::string_view key) = 0;

  virtual absl::StatusOr<QueueStats> GetQueueStats(absl::Time now) = 0;
  /// `warm` as in ClaimRequest.
  virtual absl::StatusOr<QueueOrder> GetQueueOrder(
      const std::vector<std::string>& warm, absl::Time now) = 0;
};

}  // namespace moescope
