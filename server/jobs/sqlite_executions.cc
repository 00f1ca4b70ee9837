#include <algorithm>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "server/jobs/sqlite_job_store_internal.h"

namespace moescope::internal {
namespace {

bool Has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

bool Serves(const ClaimRequest& request, const ExecutionRecord& execution) {
  const bool fits_class =
      request.numerics_classes.empty() || execution.numerics_class.empty() ||
      Has(request.numerics_classes, execution.numerics_class);
  const bool fits_analysis =
      request.analyses.empty() ||
      std::any_of(request.analyses.begin(), request.analyses.end(),
                  [&](const AnalysisVersion& served) {
                    return served.analysis == execution.analysis &&
                           served.version == execution.analysis_version;
                  });
  return fits_class && fits_analysis;
}

absl::StatusOr<ExecutionRecord> SqliteJobStore::LoadOwned(absl::string_view id,
                                                          std::int64_t fence) {
  MOESCOPE_ASSIGN_OR_RETURN(ExecutionRecord execution, LoadExecution(id));
  if (execution.state != JobState::kRunning || execution.fence != fence) {
    ErrorDetails details;
    details.reason = "FENCED";
    return MakeError(
        absl::StatusCode::kFailedPrecondition,
        absl::StrCat("execution ", id, " is ", JobStateName(execution.state),
                     " under fence ", execution.fence, ", not running under ",
                     fence),
        details);
  }
  return execution;
}

absl::Status SqliteJobStore::ReadHistory(SchedulingSnapshot& snapshot) {
  Statement query = database_->Prepare(
      "SELECT client, SUM(state = 2), MAX(start_time), "
      "MAX(CASE WHEN priority = 2 THEN start_time END) FROM executions "
      "WHERE state = 2 OR start_time > ? GROUP BY client");
  query.Bind(snapshot.now - absl::Hours(1));
  while (true) {
    MOESCOPE_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) {
      return absl::OkStatus();
    }
    ClientHistory& history = snapshot.clients[query.Text(0)];
    history.running = query.Int(1);
    history.last_start =
        query.OptionalTime(2).value_or(absl::InfinitePast());
    history.last_batch_start =
        query.OptionalTime(3).value_or(absl::InfinitePast());
  }
}

absl::StatusOr<QueueOrder> SqliteJobStore::GetQueueOrder(
    const std::vector<std::string>& warm, absl::Time now) {
  using Order = absl::StatusOr<QueueOrder>;
  return Transact("queue_order", Access::kRead, [&]() -> Order {
    SchedulingSnapshot snapshot;
    snapshot.now = now;
    snapshot.warm.insert(warm.begin(), warm.end());
    std::vector<QueueOrder::Queued> queued;
    QueueOrder order;
    Statement query = database_->Prepare(
        "SELECT id, client, priority, create_time, affinity, lane, "
        "estimated_seconds, state, start_time, expected_end FROM executions "
        "WHERE state IN (1, 2)");
    while (true) {
      MOESCOPE_ASSIGN_OR_RETURN(const bool row, query.Step());
      if (!row) {
        break;
      }
      if (query.Int(7) == static_cast<std::int64_t>(JobState::kQueued)) {
        snapshot.queued.push_back({query.Text(0), query.Text(1),
                                   static_cast<Priority>(query.Int(2)),
                                   query.Time(3), query.Text(4)});
        queued.push_back({query.Text(0), query.Text(5), query.Real(6)});
        continue;
      }
      const absl::Time end = query.OptionalTime(9).value_or(
          query.OptionalTime(8).value_or(now) + absl::Seconds(query.Real(6)));
      order.running.push_back(
          {query.Text(5), std::max(0.0, absl::ToDoubleSeconds(end - now))});
    }
    MOESCOPE_RETURN_IF_ERROR(ReadHistory(snapshot));
    for (const std::size_t i :
         StartOrder(snapshot, options_.limits.scheduling)) {
      order.queued.push_back(queued[i]);
    }
    return order;
  });
}

absl::StatusOr<std::optional<std::string>> SqliteJobStore::Choose(
    const ClaimRequest& request, absl::Time now) {
  SchedulingSnapshot snapshot;
  snapshot.now = now;
  snapshot.warm.insert(request.warm.begin(), request.warm.end());
  {
    Statement query = database_->Prepare(
        "SELECT id, client, priority, create_time, affinity, lane, "
        "numerics_class, analysis, analysis_version FROM executions "
        "WHERE state = 1");
    while (true) {
      MOESCOPE_ASSIGN_OR_RETURN(const bool row, query.Step());
      if (!row) {
        break;
      }
      ExecutionRecord candidate;
      candidate.lane = query.Text(5);
      candidate.numerics_class = query.Text(6);
      candidate.analysis = query.Text(7);
      candidate.analysis_version = query.Int(8);
      if (Has(request.lanes, candidate.lane) && Serves(request, candidate)) {
        snapshot.queued.push_back({query.Text(0), query.Text(1),
                                   static_cast<Priority>(query.Int(2)),
                                   query.Time(3), query.Text(4)});
      }
    }
  }
  if (snapshot.queued.empty()) {
    return std::nullopt;
  }
  MOESCOPE_RETURN_IF_ERROR(ReadHistory(snapshot));
  const std::optional<std::size_t> next =
      ChooseNext(snapshot, options_.limits.scheduling);
  return snapshot.queued[*next].id;
}

absl::StatusOr<std::optional<ExecutionRecord>> SqliteJobStore::Claim(
    const ClaimRequest& request, absl::Time now) {
  using Claimed = absl::StatusOr<std::optional<ExecutionRecord>>;
  return Transact("claim", Access::kWrite, [&]() -> Claimed {
    MOESCOPE_ASSIGN_OR_RETURN(const std::optional<std::string> id,
                              Choose(request, now));
    if (!id.has_value()) {
      return std::nullopt;
    }
    MOESCOPE_ASSIGN_OR_RETURN(const ExecutionRecord before, LoadExecution(*id));
    MOESCOPE_RETURN_IF_ERROR(database_->Execute(
        "UPDATE counters SET value = value + 1 WHERE name = 'fence'"));
    Statement claim = database_->Prepare(
        "UPDATE executions SET state = 2, owner = ?, lease_until = ?, "
        "start_time = ?, attempt = attempt + 1, "
        "fence = (SELECT value FROM counters WHERE name = 'fence') "
        "WHERE id = ?");
    claim.Bind(request.owner).Bind(request.lease_until).Bind(now).Bind(*id);
    MOESCOPE_RETURN_IF_ERROR(claim.Run());
    Statement jobs = database_->Prepare(
        "UPDATE jobs SET state = 2, sequence = sequence + 1, "
        "attempt = attempt + 1, start_time = COALESCE(start_time, ?) "
        "WHERE execution_id = ? AND state = 1");
    MOESCOPE_RETURN_IF_ERROR(jobs.Bind(now).Bind(*id).Run());
    changed_ = true;
    AfterCommit([before, now](Metrics& metrics) {
      metrics.JobAttempted();
      if (!before.start_time.has_value()) {
        metrics.JobWaited(PriorityName(before.priority),
                          now - before.create_time);
      }
    });
    MOESCOPE_ASSIGN_OR_RETURN(ExecutionRecord claimed, LoadExecution(*id));
    return std::make_optional(std::move(claimed));
  });
}

absl::StatusOr<ExecutionRecord> SqliteJobStore::GetExecution(
    absl::string_view execution_id) {
  return Transact("get_execution", Access::kRead,
                  [&] { return LoadExecution(execution_id); });
}

absl::Status SqliteJobStore::ShowProgress(absl::string_view execution_id,
                                          const ProgressReport& report) {
  const Progress& progress = report.progress;
  Statement execution = database_->Prepare(
      "UPDATE executions SET stage = ?, done = ?, total = ?, unit = ?, "
      "expected_end = ? WHERE id = ?");
  execution.Bind(progress.stage).Bind(progress.done).Bind(progress.total);
  execution.Bind(progress.unit).Bind(report.expected_end).Bind(execution_id);
  MOESCOPE_RETURN_IF_ERROR(execution.Run());
  Statement jobs = database_->Prepare(
      "UPDATE jobs SET sequence = sequence + 1, stage = ?, done = ?, "
      "total = ?, unit = ?, expected_end = ? "
      "WHERE execution_id = ? AND state = 2");
  jobs.Bind(progress.stage).Bind(progress.done).Bind(progress.total);
  jobs.Bind(progress.unit).Bind(report.expected_end).Bind(execution_id);
  changed_ = true;
  return jobs.Run();
}

absl::StatusOr<bool> SqliteJobStore::Heartbeat(
    absl::string_view execution_id, std::int64_t fence, absl::Time lease_until,
    const std::optional<ProgressReport>& report) {
  return Transact("heartbeat", Access::kWrite, [&]() -> absl::StatusOr<bool> {
    MOESCOPE_RETURN_IF_ERROR(LoadOwned(execution_id, fence).status());
    Statement update =
        database_->Prepare("UPDATE executions SET lease_until = "
                           "MAX(COALESCE(lease_until, 0), ?) WHERE id = ?");
    MOESCOPE_RETURN_IF_ERROR(update.Bind(lease_until).Bind(execution_id).Run());
    if (report.has_value()) {
      MOESCOPE_RETURN_IF_ERROR(ShowProgress(execution_id, *report));
    }
    return IsWanted(execution_id);
  });
}

absl::StatusOr<bool> SqliteJobStore::Commit(absl::string_view execution_id,
                                            std::int64_t fence,
                                            const Committed& committed) {
  return Transact("commit", Access::kWrite, [&]() -> absl::StatusOr<bool> {
    MOESCOPE_RETURN_IF_ERROR(LoadOwned(execution_id, fence).status());
    Statement update = database_->Prepare(
        "UPDATE executions SET attempt = 0, committed_records = ?, "
        "committed_bytes = ?, committed_digest = ?, committed_fence = fence, "
        "resume_position = ? WHERE id = ?");
    update.Bind(committed.records).Bind(committed.bytes);
    update.Bind(committed.digest).BindBlob(committed.resume_position);
    MOESCOPE_RETURN_IF_ERROR(update.Bind(execution_id).Run());
    changed_ = true;
    return IsWanted(execution_id);
  });
}

absl::Status SqliteJobStore::EndExecution(const ExecutionRecord& execution,
                                          JobState state, absl::Time now) {
  Statement update = database_->Prepare(
      "UPDATE executions SET state = ?, finish_time = ?, owner = '', "
      "lease_until = NULL WHERE id = ?");
  update.Bind(static_cast<std::int64_t>(state)).Bind(now).Bind(execution.id);
  changed_ = true;
  return update.Run();
}

absl::Status SqliteJobStore::EndJobsOf(const ExecutionRecord& execution,
                                       JobState state,
                                       const absl::Status& error,
                                       absl::string_view result_key,
                                       absl::Time now) {
  std::vector<JobRecord> jobs;
  {
    Statement query = database_->Prepare(
        "SELECT " MOESCOPE_JOB_COLUMNS
        " FROM jobs WHERE execution_id = ? AND state IN (1, 2)");
    query.Bind(execution.id);
    while (true) {
      MOESCOPE_ASSIGN_OR_RETURN(const bool row, query.Step());
      if (!row) {
        break;
      }
      jobs.push_back(ReadJob(query));
    }
  }
  for (const JobRecord& job : jobs) {
    MOESCOPE_RETURN_IF_ERROR(EndJob(job, state, error, result_key, now));
  }
  return absl::OkStatus();
}

absl::Status SqliteJobStore::Finish(absl::string_view execution_id,
                                    std::int64_t fence,
                                    const absl::Status& status,
                                    const std::optional<ResultRow>& result,
                                    absl::Time now) {
  return Transact("finish", Access::kWrite, [&]() -> absl::Status {
    MOESCOPE_ASSIGN_OR_RETURN(const ExecutionRecord execution,
                              LoadOwned(execution_id, fence));
    MOESCOPE_ASSIGN_OR_RETURN(const bool wanted, IsWanted(execution_id));
    if (!wanted) {
      Statement query = database_->Prepare(
          "SELECT MAX(finish_time) FROM jobs WHERE execution_id = ?");
      MOESCOPE_RETURN_IF_ERROR(query.Bind(execution_id).Step().status());
      AfterCommit([asked = query.OptionalTime(0).value_or(now),
                   now](Metrics& m) { m.JobCancelSeconds(now - asked); });
    }
    std::string result_key;
    if (status.ok() && result.has_value()) {
      MOESCOPE_RETURN_IF_ERROR(FileResult(*result));
      result_key = result->key;
    }
    const JobState state = status.ok() ? JobState::kSucceeded
                           : wanted    ? JobState::kFailed
                                       : JobState::kCancelled;
    MOESCOPE_RETURN_IF_ERROR(
        EndJobsOf(execution, state, status, result_key, now));
    AfterCommit([execution, now](Metrics& metrics) {
      metrics.JobRan(execution.analysis,
                     now - execution.start_time.value_or(now));
    });
    return EndExecution(execution, state, now);
  });
}

absl::Status SqliteJobStore::Release(absl::string_view execution_id,
                                     std::int64_t fence, absl::Time now) {
  return Transact("release", Access::kWrite, [&]() -> absl::Status {
    MOESCOPE_ASSIGN_OR_RETURN(const ExecutionRecord execution,
                              LoadOwned(execution_id, fence));
    SweepReport report;
    return Requeue(execution, false, now, report);
  });
}

absl::StatusOr<std::vector<std::string>> SqliteJobStore::ListUnwanted(
    absl::string_view owner) {
  using Ids = absl::StatusOr<std::vector<std::string>>;
  return Transact("list_unwanted", Access::kRead, [&]() -> Ids {
    Statement query = database_->Prepare(
        "SELECT id FROM executions WHERE state = 2 AND owner = ? "
        "AND NOT " MOESCOPE_HAS_LIVE_JOB);
    query.Bind(owner);
    std::vector<std::string> ids;
    while (true) {
      MOESCOPE_ASSIGN_OR_RETURN(const bool row, query.Step());
      if (!row) {
        return ids;
      }
      ids.push_back(query.Text(0));
    }
  });
}

}  // namespace moescope::internal
