#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/clock.h"

#include "moescope/base/mutex.h"
#include "moescope/jobs/sqlite_job_store.h"
#include "server/jobs/sqlite_internal.h"

namespace moescope::internal {

// The columns that ReadJob and ReadExecution expect, in order.
#define MOESCOPE_JOB_COLUMNS                                                   \
  "id, client, request_id, request_hash, analysis, analysis_version, spec, "   \
  "key, priority, lane, state, sequence, create_time, start_time, "            \
  "finish_time, deadline, caller_expires, attempt, execution_id, stage, "      \
  "done, total, unit, estimated_seconds, real_seconds, result_key, "           \
  "error_code, error_message, error_details, traceparent, server_version, "    \
  "expected_end"
#define MOESCOPE_EXECUTION_COLUMNS                                             \
  "id, key, client, analysis, analysis_version, spec, numerics_class, lane, "  \
  "affinity, priority, state, attempt, owner, lease_until, fence, "            \
  "committed_records, committed_bytes, committed_digest, committed_fence, "    \
  "resume_position, stage, done, total, unit, estimated_seconds, "             \
  "traceparent, create_time, start_time, finish_time, expected_end"
// States as they are stored: 1 queued, 2 running.
#define MOESCOPE_HAS_LIVE_JOB                            \
  "EXISTS (SELECT 1 FROM jobs WHERE jobs.execution_id =" \
  " executions.id AND jobs.state IN (1, 2))"

/// Whether class and version of `execution` are among those of `request`.
bool Serves(const ClaimRequest& request, const ExecutionRecord& execution);

JobRecord ReadJob(const Statement& row);
ExecutionRecord ReadExecution(const Statement& row);

class SqliteJobStore final : public JobStore {
 public:
  SqliteJobStore(SqliteJobStoreOptions options,
                 std::unique_ptr<Database> database)
      : options_(std::move(options)), database_(std::move(database)) {}

  absl::StatusOr<SubmitReply> Submit(const SubmitRequest& request,
                                     absl::Time now) override;
  absl::StatusOr<JobRecord> GetJob(absl::string_view job_id) override;
  absl::StatusOr<JobPage> ListJobs(const JobFilter& filter,
                                   std::int64_t page_size,
                                   absl::string_view page_token) override;
  absl::StatusOr<std::optional<JobRecord>> FindLiveJob(
      absl::string_view key) override;
  absl::StatusOr<std::set<std::string>> LiveKeys() override;
  absl::StatusOr<std::set<std::string>> UnsharedResults() override;
  absl::StatusOr<JobRecord> CancelJob(absl::string_view job_id,
                                      const absl::Status& reason,
                                      absl::Time now) override;
  absl::Status TouchCaller(absl::string_view job_id,
                           std::optional<absl::Time> until,
                           absl::Time now) override;
  absl::StatusOr<SweepReport> Sweep(absl::Time now) override;
  absl::StatusOr<std::optional<ExecutionRecord>> Claim(
      const ClaimRequest& request, absl::Time now) override;
  absl::StatusOr<ExecutionRecord> GetExecution(
      absl::string_view execution_id) override;
  absl::StatusOr<bool> Heartbeat(
      absl::string_view execution_id, std::int64_t fence,
      absl::Time lease_until,
      const std::optional<ProgressReport>& report) override;
  absl::StatusOr<bool> Commit(absl::string_view execution_id,
                              std::int64_t fence,
                              const Committed& committed) override;
  absl::Status Finish(absl::string_view execution_id, std::int64_t fence,
                      const absl::Status& status,
                      const std::optional<ResultRow>& result,
                      absl::Time now) override;
  absl::Status Release(absl::string_view execution_id, std::int64_t fence,
                       absl::Time now) override;
  absl::StatusOr<std::int64_t> RequeueOwnedByOthers(absl::string_view owner,
                                                    absl::Time now) override;
  absl::StatusOr<std::vector<std::string>> ListUnserved(
      const ClaimRequest& request) override;
  absl::Status Rekey(absl::string_view execution_id, const Rekeyed& rekeyed,
                     absl::Time now) override;
  absl::StatusOr<std::vector<std::string>> ListUnwanted(
      absl::string_view owner) override;
  absl::StatusOr<ResultRow> GetResult(absl::string_view key) override;
  absl::Status AddResultAlias(absl::string_view key,
                              absl::string_view alias) override;
  absl::Status DeleteResult(absl::string_view key) override;
  absl::StatusOr<QueueStats> GetQueueStats(absl::Time now) override;
  absl::StatusOr<QueueOrder> GetQueueOrder(const std::vector<std::string>& warm,
                                           absl::Time now) override;

 private:
  enum class Access { kRead, kWrite };
  struct QueueLoad {
    std::int64_t jobs = 0;
    std::int64_t executions = 0;
    double seconds = 0;
  };

  // Runs `body` as one transaction; what it wrote stays only when it succeeds.
  template <typename Body>
  auto Transact(absl::string_view op, Access access, Body body)
      -> decltype(body()) {
    const absl::Time start = absl::Now();
    const MutexLock lock(mutex_);
    changed_ = false;
    after_commit_.clear();
    auto outcome = [&]() -> decltype(body()) {
      Transaction transaction(*database_);
      if (absl::Status begun = transaction.Begin(access == Access::kWrite);
          !begun.ok()) {
        return begun;
      }
      auto done = body();
      if (StatusOf(done).ok()) {
        if (absl::Status committed = transaction.Commit(); !committed.ok()) {
          return committed;
        }
      }
      return done;
    }();
    Report(op, StatusOf(outcome), absl::Now() - start);
    return outcome;
  }
  static const absl::Status& StatusOf(const absl::Status& status) {
    return status;
  }
  template <typename T>
  static const absl::Status& StatusOf(const absl::StatusOr<T>& value) {
    return value.status();
  }
  void Report(absl::string_view op, const absl::Status& status,
              absl::Duration took) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A metric that counts only what was committed.
  void AfterCommit(std::function<void(Metrics&)> report) {
    after_commit_.push_back(std::move(report));
  }

  // The bodies; inside a transaction.
  absl::StatusOr<SubmitReply> DoSubmit(const SubmitRequest& request,
                                       absl::Time now);
  absl::StatusOr<std::optional<JobRecord>> FindRepeated(
      const SubmitRequest& request);
  absl::StatusOr<std::optional<ExecutionRecord>> FindShared(
      const SubmitRequest& request);
  absl::StatusOr<QueueLoad> LoadOfQueue();
  absl::Status CheckRoom(const SubmitRequest& request, bool joins);
  absl::Status InsertJob(const JobRecord& job);
  absl::Status InsertExecution(const SubmitRequest& request,
                               absl::string_view id, absl::Time now);
  absl::StatusOr<JobRecord> LoadJob(absl::string_view job_id);
  absl::StatusOr<ExecutionRecord> LoadExecution(absl::string_view id);
  // Another live execution of `key` that any job may share.
  absl::StatusOr<std::optional<ExecutionRecord>> FindOtherShared(
      absl::string_view key, absl::string_view execution_id);
  // The execution, which must be running under `fence`.
  absl::StatusOr<ExecutionRecord> LoadOwned(absl::string_view id,
                                            std::int64_t fence);
  // How long the present attempt at the work of `job` has taken.
  absl::StatusOr<double> AttemptSeconds(const JobRecord& job, absl::Time now);
  absl::Status EndJob(const JobRecord& job, JobState state,
                      const absl::Status& error, absl::string_view result_key,
                      absl::Time now);
  absl::Status EndJobsOf(const ExecutionRecord& execution, JobState state,
                         const absl::Status& error,
                         absl::string_view result_key, absl::Time now);
  absl::Status EndExecution(const ExecutionRecord& execution, JobState state,
                            absl::Time now);
  // Queued work that nobody wants ends here.
  absl::Status DropUnwanted(absl::string_view execution_id, absl::Time now);
  absl::StatusOr<bool> IsWanted(absl::string_view execution_id);
  // A running execution whose worker is gone or hands it back.
  absl::Status Requeue(const ExecutionRecord& execution, bool counts,
                       absl::Time now, SweepReport& report);
  absl::StatusOr<std::optional<std::string>> Choose(const ClaimRequest& request,
                                                    absl::Time now);
  absl::Status ReadHistory(SchedulingSnapshot& snapshot);
  absl::Status ShowProgress(absl::string_view execution_id,
                            const ProgressReport& report);
  absl::Status FileResult(const ResultRow& result);
  /// The first column of a query that takes nothing.
  absl::StatusOr<std::set<std::string>> ReadKeys(const char* sql);
  absl::StatusOr<std::optional<ResultRow>> FindResult(absl::string_view key);
  absl::Status SweepJobs(absl::Time now, SweepReport& report);
  absl::Status SweepLeases(absl::Time now, SweepReport& report);
  absl::Status SweepOld(absl::Time now, SweepReport& report);

  const SqliteJobStoreOptions options_;
  Mutex mutex_;
  // These belong to whoever holds mutex_, which is Transact's caller.
  const std::unique_ptr<Database> database_;
  bool changed_ = false;
  std::vector<std::function<void(Metrics&)>> after_commit_;
};

}  // namespace moescope::internal
