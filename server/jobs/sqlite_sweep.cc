#include <algorithm>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "server/jobs/sqlite_job_store_internal.h"

namespace moescope::internal {
namespace {

template <typename Row>
absl::StatusOr<std::vector<Row>> ReadAll(Statement& query,
                                         Row (*read)(const Statement&)) {
  std::vector<Row> rows;
  while (true) {
    MOESCOPE_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) {
      return rows;
    }
    rows.push_back(read(query));
  }
}

absl::Status WorkerLost(std::int64_t attempts) {
  ErrorDetails details;
  details.reason = "WORKER_LOST";
  return MakeError(absl::StatusCode::kInternal,
                   absl::StrCat("the worker was lost ", attempts,
                                " times in a row without progress"),
                   details);
}

}  // namespace

absl::Status SqliteJobStore::Requeue(const ExecutionRecord& execution,
                                     bool counts, absl::Time now,
                                     SweepReport& report) {
  MOESCOPE_ASSIGN_OR_RETURN(const bool wanted, IsWanted(execution.id));
  if (!wanted) {
    return EndExecution(execution, JobState::kCancelled, now);
  }
  if (counts && execution.attempt >= options_.limits.max_attempts) {
    ++report.lost;
    MOESCOPE_RETURN_IF_ERROR(EndJobsOf(execution, JobState::kFailed,
                                       WorkerLost(execution.attempt), "", now));
    return EndExecution(execution, JobState::kFailed, now);
  }
  ++report.requeued;
  const std::int64_t attempt =
      counts ? execution.attempt
             : std::max<std::int64_t>(execution.attempt - 1, 0);
  Statement update = database_->Prepare(
      "UPDATE executions SET state = 1, owner = '', lease_until = NULL, "
      "expected_end = NULL, attempt = ? WHERE id = ?");
  MOESCOPE_RETURN_IF_ERROR(update.Bind(attempt).Bind(execution.id).Run());
  Statement jobs = database_->Prepare(
      "UPDATE jobs SET state = 1, sequence = sequence + 1, "
      "expected_end = NULL WHERE execution_id = ? AND state = 2");
  changed_ = true;
  return jobs.Bind(execution.id).Run();
}

absl::StatusOr<std::int64_t> SqliteJobStore::RequeueOwnedByOthers(
    absl::string_view owner, absl::Time now) {
  using Count = absl::StatusOr<std::int64_t>;
  return Transact("requeue", Access::kWrite, [&]() -> Count {
    std::vector<ExecutionRecord> executions;
    {
      Statement query = database_->Prepare(
          "SELECT " MOESCOPE_EXECUTION_COLUMNS
          " FROM executions WHERE state = 2 AND owner <> ?");
      query.Bind(owner);
      MOESCOPE_ASSIGN_OR_RETURN(executions, ReadAll(query, &ReadExecution));
    }
    SweepReport report;
    for (const ExecutionRecord& execution : executions) {
      MOESCOPE_RETURN_IF_ERROR(Requeue(execution, true, now, report));
    }
    AfterCommit([count = report.requeued](Metrics& metrics) {
      metrics.JobsRecovered(count);
    });
    return report.requeued;
  });
}

absl::StatusOr<SweepReport> SqliteJobStore::Sweep(absl::Time now) {
  return Transact("sweep", Access::kWrite,
                  [&]() -> absl::StatusOr<SweepReport> {
                    SweepReport report;
                    MOESCOPE_RETURN_IF_ERROR(SweepJobs(now, report));
                    MOESCOPE_RETURN_IF_ERROR(SweepLeases(now, report));
                    MOESCOPE_RETURN_IF_ERROR(SweepOld(now, report));
                    return report;
                  });
}

absl::Status SqliteJobStore::SweepJobs(absl::Time now, SweepReport& report) {
  std::vector<JobRecord> due;
  {
    Statement query = database_->Prepare(
        "SELECT " MOESCOPE_JOB_COLUMNS
        " FROM jobs WHERE state IN (1, 2) AND "
        "(deadline <= ?1 OR caller_expires <= ?1)");
    query.Bind(now);
    MOESCOPE_ASSIGN_OR_RETURN(due, ReadAll(query, &ReadJob));
  }
  for (const JobRecord& job : due) {
    if (job.deadline.has_value() && *job.deadline <= now) {
      ++report.deadlines_passed;
      ErrorDetails details;
      details.reason = "DEADLINE_PASSED";
      MOESCOPE_RETURN_IF_ERROR(
          EndJob(job, JobState::kFailed,
                 MakeError(absl::StatusCode::kDeadlineExceeded,
                           "the deadline of the job passed", details),
                 "", now));
    } else {
      ++report.callers_gone;
      ErrorDetails details;
      details.reason = "CALLER_GONE";
      MOESCOPE_RETURN_IF_ERROR(
          EndJob(job, JobState::kCancelled,
                 MakeError(absl::StatusCode::kCancelled,
                           "the caller left and did not come back", details),
                 "", now));
    }
    MOESCOPE_RETURN_IF_ERROR(DropUnwanted(job.execution_id, now));
  }
  return absl::OkStatus();
}

absl::Status SqliteJobStore::SweepLeases(absl::Time now, SweepReport& report) {
  std::vector<ExecutionRecord> lapsed;
  {
    Statement query = database_->Prepare(
        "SELECT " MOESCOPE_EXECUTION_COLUMNS
        " FROM executions WHERE state = 2 AND lease_until <= ?");
    query.Bind(now);
    MOESCOPE_ASSIGN_OR_RETURN(lapsed, ReadAll(query, &ReadExecution));
  }
  const std::int64_t requeued_before = report.requeued;
  for (const ExecutionRecord& execution : lapsed) {
    MOESCOPE_RETURN_IF_ERROR(Requeue(execution, true, now, report));
    AfterCommit([](Metrics& metrics) { metrics.JobLeaseLost(); });
  }
  AfterCommit([count = report.requeued - requeued_before](Metrics& metrics) {
    metrics.JobsRecovered(count);
  });
  return absl::OkStatus();
}

absl::Status SqliteJobStore::SweepOld(absl::Time now, SweepReport& report) {
  const absl::Duration retention = options_.limits.job_retention;
  Statement expire = database_->Prepare(
      "UPDATE jobs SET state = 6, sequence = sequence + 1 "
      "WHERE state IN (3, 4, 5) AND finish_time <= ?");
  MOESCOPE_RETURN_IF_ERROR(expire.Bind(now - retention).Run());
  report.expired = database_->changes();
  changed_ = changed_ || report.expired > 0;
  Statement jobs = database_->Prepare(
      "DELETE FROM jobs WHERE state = 6 AND finish_time <= ?");
  MOESCOPE_RETURN_IF_ERROR(jobs.Bind(now - 2 * retention).Run());
  Statement executions = database_->Prepare(
      "DELETE FROM executions WHERE state IN (3, 4, 5) AND finish_time <= ? "
      "AND NOT EXISTS (SELECT 1 FROM jobs WHERE execution_id = "
      "executions.id)");
  return executions.Bind(now - 2 * retention).Run();
}

absl::StatusOr<QueueStats> SqliteJobStore::GetQueueStats(absl::Time now) {
  using Stats = absl::StatusOr<QueueStats>;
  return Transact("queue_stats", Access::kRead, [&]() -> Stats {
    QueueStats stats;
    absl::Time oldest = now;
    Statement queued = database_->Prepare(
        "SELECT analysis, priority, COUNT(*), MIN(create_time) FROM jobs "
        "WHERE state = 1 GROUP BY analysis, priority");
    while (true) {
      MOESCOPE_ASSIGN_OR_RETURN(const bool row, queued.Step());
      if (!row) {
        break;
      }
      stats.queued.push_back({queued.Text(0),
                              static_cast<Priority>(queued.Int(1)),
                              queued.Int(2)});
      oldest = std::min(oldest, queued.Time(3));
    }
    stats.oldest_age = now - oldest;
    Statement running = database_->Prepare(
        "SELECT analysis, COUNT(*) FROM executions WHERE state = 2 "
        "GROUP BY analysis");
    while (true) {
      MOESCOPE_ASSIGN_OR_RETURN(const bool row, running.Step());
      if (!row) {
        break;
      }
      stats.running.push_back({running.Text(0), running.Int(1)});
    }
    MOESCOPE_ASSIGN_OR_RETURN(const QueueLoad load, LoadOfQueue());
    stats.queued_work = absl::Seconds(load.seconds);
    return stats;
  });
}

}  // namespace moescope::internal
