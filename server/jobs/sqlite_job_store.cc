#include "moescope/jobs/sqlite_job_store.h"

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/log.h"
#include "moescope/base/quote_name.h"
#include "moescope/base/status_macros.h"
#include "server/jobs/error_bytes_internal.h"
#include "server/jobs/sqlite_job_store_internal.h"

namespace moescope {

absl::StatusOr<std::unique_ptr<JobStore>> OpenSqliteJobStore(
    SqliteJobStoreOptions options) {
  MOESCOPE_ASSIGN_OR_RETURN(
      std::unique_ptr<internal::Database> database,
      internal::Database::Open(options.path, options.busy_timeout));
  MOESCOPE_RETURN_IF_ERROR(internal::MigrateSchema(*database));
  if (options.metrics != nullptr) {
    options.metrics->SetStoreUp(true);
  }
  return std::make_unique<internal::SqliteJobStore>(std::move(options),
                                                    std::move(database));
}

namespace internal {
namespace {

Progress ReadProgress(const Statement& row, int first) {
  return {row.Text(first), row.Int(first + 1), row.Int(first + 2),
          row.Text(first + 3)};
}

}  // namespace

JobRecord ReadJob(const Statement& row) {
  JobRecord job;
  job.id = row.Text(0);
  job.client = row.Text(1);
  job.request_id = row.Text(2);
  job.request_hash = row.Text(3);
  job.analysis = row.Text(4);
  job.analysis_version = row.Int(5);
  job.spec = row.Text(6);
  job.key = row.Text(7);
  job.priority = static_cast<Priority>(row.Int(8));
  job.lane = row.Text(9);
  job.state = static_cast<JobState>(row.Int(10));
  job.sequence = row.Int(11);
  job.create_time = row.Time(12);
  job.start_time = row.OptionalTime(13);
  job.finish_time = row.OptionalTime(14);
  job.deadline = row.OptionalTime(15);
  job.caller_expires = row.OptionalTime(16);
  job.attempt = row.Int(17);
  job.execution_id = row.Text(18);
  job.progress = ReadProgress(row, 19);
  job.estimated_seconds = row.Real(23);
  job.real_seconds = row.Real(24);
  job.result_key = row.Text(25);
  job.error = DecodeError(static_cast<absl::StatusCode>(row.Int(26)),
                          row.Text(27), row.Text(28));
  job.traceparent = row.Text(29);
  job.server_version = row.Text(30);
  job.expected_end = row.OptionalTime(31);
  return job;
}

ExecutionRecord ReadExecution(const Statement& row) {
  ExecutionRecord execution;
  execution.id = row.Text(0);
  execution.key = row.Text(1);
  execution.client = row.Text(2);
  execution.analysis = row.Text(3);
  execution.analysis_version = row.Int(4);
  execution.spec = row.Text(5);
  execution.numerics_class = row.Text(6);
  execution.lane = row.Text(7);
  execution.affinity = row.Text(8);
  execution.priority = static_cast<Priority>(row.Int(9));
  execution.state = static_cast<JobState>(row.Int(10));
  execution.attempt = row.Int(11);
  execution.owner = row.Text(12);
  execution.lease_until = row.OptionalTime(13);
  execution.fence = row.Int(14);
  execution.committed = {row.Int(15), row.Int(16), row.Text(17), row.Int(18),
                         row.Text(19)};
  execution.progress = ReadProgress(row, 20);
  execution.estimated_seconds = row.Real(24);
  execution.traceparent = row.Text(25);
  execution.create_time = row.Time(26);
  execution.start_time = row.OptionalTime(27);
  execution.finish_time = row.OptionalTime(28);
  execution.expected_end = row.OptionalTime(29);
  return execution;
}

void SqliteJobStore::Report(absl::string_view op, const absl::Status& status,
                            absl::Duration took) {
  if (status.ok() && changed_ && options_.notifier != nullptr) {
    options_.notifier->Notify();
  }
  const bool store_failed =
      !status.ok() && GetErrorDetails(status).reason == kStoreFailed;
  if (store_failed) {
    Log(LogLevel::kError, "job_store_failed",
        {{"op", op}, {"error", status.ToString()}});
  }
  if (options_.metrics == nullptr) {
    return;
  }
  options_.metrics->StoreSeconds(op, took);
  options_.metrics->SetStoreUp(!store_failed);
  if (store_failed) {
    options_.metrics->StoreError(op);
  }
  if (status.ok()) {
    for (const auto& report : after_commit_) {
      report(*options_.metrics);
    }
  }
}

absl::StatusOr<JobRecord> SqliteJobStore::LoadJob(absl::string_view job_id) {
  Statement query = database_->Prepare("SELECT " MOESCOPE_JOB_COLUMNS
                                       " FROM jobs WHERE id = ?");
  query.Bind(job_id);
  MOESCOPE_ASSIGN_OR_RETURN(const bool found, query.Step());
  if (!found) {
    return FieldError(absl::StatusCode::kNotFound, "id",
                      absl::StrCat(QuoteName(job_id), " is unknown or expired"),
                      "JOB_NOT_FOUND");
  }
  return ReadJob(query);
}

absl::StatusOr<ExecutionRecord> SqliteJobStore::LoadExecution(
    absl::string_view id) {
  Statement query = database_->Prepare("SELECT " MOESCOPE_EXECUTION_COLUMNS
                                       " FROM executions WHERE id = ?");
  query.Bind(id);
  MOESCOPE_ASSIGN_OR_RETURN(const bool found, query.Step());
  if (!found) {
    return FieldError(absl::StatusCode::kNotFound, "execution",
                      absl::StrCat("\"", id, "\" is unknown or expired"),
                      "EXECUTION_NOT_FOUND");
  }
  return ReadExecution(query);
}

absl::StatusOr<double> SqliteJobStore::AttemptSeconds(const JobRecord& job,
                                                      absl::Time now) {
  if (job.state != JobState::kRunning) {
    return 0;
  }
  // The job's own start is that of the first attempt, or when it joined.
  MOESCOPE_ASSIGN_OR_RETURN(const ExecutionRecord execution,
                            LoadExecution(job.execution_id));
  return absl::ToDoubleSeconds(now - execution.start_time.value_or(now));
}

absl::Status SqliteJobStore::EndJob(const JobRecord& job, JobState state,
                                    const absl::Status& error,
                                    absl::string_view result_key,
                                    absl::Time now) {
  MOESCOPE_ASSIGN_OR_RETURN(const double ran, AttemptSeconds(job, now));
  Statement update = database_->Prepare(
      "UPDATE jobs SET state = ?, sequence = sequence + 1, finish_time = ?, "
      "expected_end = NULL, real_seconds = ?, result_key = ?, "
      "error_code = ?, error_message = ?, error_details = ? WHERE id = ?");
  update.Bind(static_cast<std::int64_t>(state)).Bind(now).Bind(ran);
  update.Bind(result_key).Bind(static_cast<std::int64_t>(error.code()));
  update.Bind(error.message()).BindBlob(EncodeErrorDetails(error));
  update.Bind(job.id);
  MOESCOPE_RETURN_IF_ERROR(update.Run());
  changed_ = true;
  AfterCommit([analysis = job.analysis, state](Metrics& metrics) {
    metrics.JobFinished(analysis, JobStateName(state));
  });
  return absl::OkStatus();
}

absl::StatusOr<bool> SqliteJobStore::IsWanted(absl::string_view execution_id) {
  Statement query = database_->Prepare(
      "SELECT 1 FROM jobs WHERE execution_id = ? AND state IN (1, 2) LIMIT 1");
  return query.Bind(execution_id).Step();
}

absl::Status SqliteJobStore::DropUnwanted(absl::string_view execution_id,
                                          absl::Time now) {
  Statement update = database_->Prepare(
      "UPDATE executions SET state = 5, finish_time = ? "
      "WHERE id = ? AND state = 1 AND NOT " MOESCOPE_HAS_LIVE_JOB);
  return update.Bind(now).Bind(execution_id).Run();
}

}  // namespace internal
}  // namespace moescope
