#include <algorithm>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/base/uuid.h"
#include "server/jobs/sqlite_job_store_internal.h"

namespace moescope::internal {

absl::StatusOr<SubmitReply> SqliteJobStore::Submit(
    const SubmitRequest& request, absl::Time now) {
  absl::StatusOr<SubmitReply> reply = Transact(
      "submit", Access::kWrite, [&] { return DoSubmit(request, now); });
  if (!reply.ok() && options_.metrics != nullptr) {
    const std::string reason = GetErrorDetails(reply.status()).reason;
    options_.metrics->JobRejected(reason);
  }
  return reply;
}

absl::StatusOr<SubmitReply> SqliteJobStore::DoSubmit(
    const SubmitRequest& request, absl::Time now) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<JobRecord> repeated,
                            FindRepeated(request));
  if (repeated.has_value()) {
    return SubmitReply{*repeated, SubmitOutcome::kRepeated};
  }
  JobRecord job;
  job.id = NewUuidV7(now);
  job.client = request.client;
  job.request_id = request.request_id;
  job.request_hash = request.request_hash;
  job.analysis = request.analysis;
  job.analysis_version = request.analysis_version;
  job.spec = request.spec;
  job.key = request.key;
  job.priority = request.priority;
  job.lane = request.lane;
  job.sequence = 1;
  job.create_time = now;
  job.deadline = request.deadline;
  job.caller_expires = request.caller_expires;
  job.estimated_seconds = request.estimated_seconds;
  job.traceparent = request.traceparent;
  job.server_version = request.server_version;
  std::optional<ResultRow> result;
  if (request.use_result || request.require_result) {
    MOESCOPE_ASSIGN_OR_RETURN(result, FindResult(request.key));
  }
  SubmitOutcome outcome = SubmitOutcome::kQueued;
  if (result.has_value()) {
    job.state = JobState::kSucceeded;
    job.start_time = now;
    job.finish_time = now;
    job.result_key = result->key;
    outcome = SubmitOutcome::kCached;
  } else if (request.require_result) {
    return FieldError(absl::StatusCode::kNotFound, "cache_policy",
                      "ONLY, and the result is not cached",
                      "RESULT_NOT_CACHED");
  } else {
    MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ExecutionRecord> shared,
                              FindShared(request));
    MOESCOPE_RETURN_IF_ERROR(CheckRoom(request, shared.has_value()));
    if (shared.has_value()) {
      job.execution_id = shared->id;
      job.state = shared->state;
      job.progress = shared->progress;
      if (job.state == JobState::kRunning) {
        job.start_time = now;
        job.attempt = 1;
      }
      outcome = SubmitOutcome::kJoined;
    } else {
      job.execution_id = NewUuidV7(now);
      MOESCOPE_RETURN_IF_ERROR(
          InsertExecution(request, job.execution_id, now));
    }
  }
  MOESCOPE_RETURN_IF_ERROR(InsertJob(job));
  if (outcome == SubmitOutcome::kCached) {
    AfterCommit([analysis = job.analysis](Metrics& metrics) {
      metrics.JobFinished(analysis, "succeeded");
    });
  }
  changed_ = true;
  return SubmitReply{std::move(job), outcome};
}

absl::StatusOr<std::optional<JobRecord>> SqliteJobStore::FindRepeated(
    const SubmitRequest& request) {
  if (request.request_id.empty()) {
    return std::nullopt;
  }
  Statement query = database_->Prepare(
      "SELECT " MOESCOPE_JOB_COLUMNS
      " FROM jobs WHERE client = ? AND request_id = ? AND request_id <> ''");
  query.Bind(request.client).Bind(request.request_id);
  MOESCOPE_ASSIGN_OR_RETURN(const bool found, query.Step());
  if (!found) {
    return std::nullopt;
  }
  JobRecord job = ReadJob(query);
  if (job.request_hash != request.request_hash) {
    return FieldError(
        absl::StatusCode::kAlreadyExists, "request_id",
        absl::StrCat("\"", request.request_id,
                     "\" was used for another request, job ", job.id),
        "REQUEST_ID_REUSED");
  }
  return job;
}

absl::StatusOr<std::optional<ExecutionRecord>> SqliteJobStore::FindShared(
    const SubmitRequest& request) {
  if (!request.share) {
    return std::nullopt;
  }
  std::optional<ExecutionRecord> shared;
  {
    // Work that nobody wants any more is being cut: it can't be joined.
    Statement query = database_->Prepare(
        "SELECT " MOESCOPE_EXECUTION_COLUMNS
        " FROM executions WHERE key = ? AND state IN (1, 2) AND shared = 1 "
        "AND " MOESCOPE_HAS_LIVE_JOB " ORDER BY create_time LIMIT 1");
    query.Bind(request.key);
    MOESCOPE_ASSIGN_OR_RETURN(const bool found, query.Step());
    if (!found) {
      return std::nullopt;
    }
    shared = ReadExecution(query);
  }
  if (request.priority < shared->priority) {
    Statement update =
        database_->Prepare("UPDATE executions SET priority = ? WHERE id = ?");
    update.Bind(static_cast<std::int64_t>(request.priority)).Bind(shared->id);
    MOESCOPE_RETURN_IF_ERROR(update.Run());
  }
  return shared;
}

absl::StatusOr<SqliteJobStore::QueueLoad> SqliteJobStore::LoadOfQueue() {
  QueueLoad load;
  Statement query = database_->Prepare(
      "SELECT (SELECT COUNT(*) FROM jobs WHERE state = 1), COUNT(*), "
      "TOTAL(estimated_seconds) FROM executions WHERE state = 1");
  MOESCOPE_RETURN_IF_ERROR(query.Step().status());
  load.jobs = query.Int(0);
  load.executions = query.Int(1);
  load.seconds = query.Real(2);
  return load;
}

absl::Status SqliteJobStore::CheckRoom(const SubmitRequest& request,
                                       bool joins) {
  MOESCOPE_ASSIGN_OR_RETURN(const QueueLoad load, LoadOfQueue());
  const JobStoreLimits& limits = options_.limits;
  const double most = absl::ToDoubleSeconds(limits.max_queued_work);
  const bool too_many = load.jobs >= limits.max_queued_jobs;
  // An empty queue takes work of any size: it would never fit otherwise.
  const bool too_much = !joins && load.executions > 0 &&
                        load.seconds + request.estimated_seconds > most;
  if (!too_many && !too_much) {
    return absl::OkStatus();
  }
  ErrorDetails details;
  details.reason = "QUEUE_FULL";
  details.metadata["max_queued_jobs"] = absl::StrCat(limits.max_queued_jobs);
  details.metadata["max_queued_seconds"] = absl::StrCat(most);
  // When about one piece of work has left the queue.
  const double mean =
      load.seconds / static_cast<double>(std::max<std::int64_t>(
                         load.executions, 1));
  details.retry_after = absl::Seconds(std::clamp(mean, 1.0, 60.0));
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat("the queue holds ", load.jobs, " jobs with ", load.seconds,
                   " s of work; allowed are ", limits.max_queued_jobs,
                   " jobs and ", most, " s"),
      details);
}

absl::Status SqliteJobStore::InsertJob(const JobRecord& job) {
  Statement insert = database_->Prepare(
      "INSERT INTO jobs (id, client, request_id, request_hash, analysis, "
      "analysis_version, spec, key, priority, lane, state, sequence, "
      "create_time, start_time, finish_time, deadline, caller_expires, "
      "attempt, execution_id, stage, done, total, unit, estimated_seconds, "
      "result_key, traceparent, server_version) VALUES "
      "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
  insert.Bind(job.id).Bind(job.client).Bind(job.request_id);
  insert.Bind(job.request_hash).Bind(job.analysis).Bind(job.analysis_version);
  insert.BindBlob(job.spec).Bind(job.key);
  insert.Bind(static_cast<std::int64_t>(job.priority)).Bind(job.lane);
  insert.Bind(static_cast<std::int64_t>(job.state)).Bind(job.sequence);
  insert.Bind(job.create_time).Bind(job.start_time).Bind(job.finish_time);
  insert.Bind(job.deadline).Bind(job.caller_expires).Bind(job.attempt);
  insert.Bind(job.execution_id).Bind(job.progress.stage);
  insert.Bind(job.progress.done).Bind(job.progress.total);
  insert.Bind(job.progress.unit).Bind(job.estimated_seconds);
  insert.Bind(job.result_key).Bind(job.traceparent).Bind(job.server_version);
  return insert.Run();
}

absl::Status SqliteJobStore::InsertExecution(const SubmitRequest& request,
                                             absl::string_view id,
                                             absl::Time now) {
  Statement insert = database_->Prepare(
      "INSERT INTO executions (id, key, shared, client, analysis, "
      "analysis_version, spec, numerics_class, lane, affinity, priority, "
      "state, estimated_seconds, traceparent, create_time) VALUES "
      "(?,?,?,?,?,?,?,?,?,?,?,1,?,?,?)");
  insert.Bind(id).Bind(request.key).Bind(std::int64_t{request.share ? 1 : 0});
  insert.Bind(request.client).Bind(request.analysis);
  insert.Bind(request.analysis_version).BindBlob(request.spec);
  insert.Bind(request.numerics_class).Bind(request.lane);
  insert.Bind(request.affinity);
  insert.Bind(static_cast<std::int64_t>(request.priority));
  insert.Bind(request.estimated_seconds).Bind(request.traceparent).Bind(now);
  return insert.Run();
}

absl::StatusOr<JobRecord> SqliteJobStore::GetJob(absl::string_view job_id) {
  return Transact("get_job", Access::kRead, [&] { return LoadJob(job_id); });
}

absl::StatusOr<JobPage> SqliteJobStore::ListJobs(const JobFilter& filter,
                                                 std::int64_t page_size,
                                                 absl::string_view page_token) {
  page_size = std::clamp<std::int64_t>(page_size, 1, 1000);
  std::int64_t before = std::numeric_limits<std::int64_t>::max();
  absl::string_view before_id;
  if (!page_token.empty()) {
    const std::size_t colon = page_token.find(':');
    if (colon == absl::string_view::npos ||
        !absl::SimpleAtoi(page_token.substr(0, colon), &before) ||
        !IsUuid(page_token.substr(colon + 1))) {
      return InvalidField("page_token", "was not returned by a list of jobs");
    }
    before_id = page_token.substr(colon + 1);
  }
  return Transact(
      "list_jobs", Access::kRead, [&]() -> absl::StatusOr<JobPage> {
        Statement query = database_->Prepare(
            "SELECT " MOESCOPE_JOB_COLUMNS
            " FROM jobs WHERE (create_time, id) < (?, ?) "
            "AND (? OR client = ?) AND (? OR state = ?) "
            "AND (? OR analysis = ?) ORDER BY create_time DESC, id DESC "
            "LIMIT ?");
        query.Bind(before).Bind(before_id);
        query.Bind(std::int64_t{!filter.client.has_value()});
        query.Bind(filter.client.value_or(""));
        query.Bind(std::int64_t{!filter.state.has_value()});
        query.Bind(static_cast<std::int64_t>(
            filter.state.value_or(JobState::kQueued)));
        query.Bind(std::int64_t{!filter.analysis.has_value()});
        query.Bind(filter.analysis.value_or("")).Bind(page_size + 1);
        JobPage page;
        while (true) {
          MOESCOPE_ASSIGN_OR_RETURN(const bool row, query.Step());
          if (!row) {
            return page;
          }
          if (static_cast<std::int64_t>(page.jobs.size()) == page_size) {
            const JobRecord& last = page.jobs.back();
            page.next_page_token = absl::StrCat(
                absl::ToUnixMicros(last.create_time), ":", last.id);
            return page;
          }
          page.jobs.push_back(ReadJob(query));
        }
      });
}

absl::StatusOr<std::optional<JobRecord>> SqliteJobStore::FindLiveJob(
    absl::string_view key) {
  using Found = absl::StatusOr<std::optional<JobRecord>>;
  return Transact("find_live_job", Access::kRead, [&]() -> Found {
    Statement query = database_->Prepare(
        "SELECT " MOESCOPE_JOB_COLUMNS
        " FROM jobs WHERE key = ? AND state IN (1, 2) "
        "ORDER BY state DESC, create_time, id LIMIT 1");
    query.Bind(key);
    MOESCOPE_ASSIGN_OR_RETURN(const bool found, query.Step());
    return found ? std::make_optional(ReadJob(query)) : std::nullopt;
  });
}

absl::StatusOr<std::set<std::string>> SqliteJobStore::ReadKeys(
    const char* sql) {
  Statement query = database_->Prepare(sql);
  std::set<std::string> keys;
  while (true) {
    MOESCOPE_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) {
      return keys;
    }
    keys.insert(query.Text(0));
  }
}

absl::StatusOr<std::set<std::string>> SqliteJobStore::LiveKeys() {
  return Transact("live_keys", Access::kRead, [&] {
    return ReadKeys("SELECT DISTINCT key FROM jobs WHERE state IN (1, 2)");
  });
}

absl::StatusOr<std::set<std::string>> SqliteJobStore::UnsharedResults() {
  return Transact("unshared_results", Access::kRead, [&] {
    return ReadKeys(
        "SELECT key FROM results WHERE key IN "
        "(SELECT key FROM executions WHERE shared = 0)");
  });
}

absl::StatusOr<JobRecord> SqliteJobStore::CancelJob(absl::string_view job_id,
                                                    const absl::Status& reason,
                                                    absl::Time now) {
  return Transact(
      "cancel", Access::kWrite, [&]() -> absl::StatusOr<JobRecord> {
        MOESCOPE_ASSIGN_OR_RETURN(const JobRecord job, LoadJob(job_id));
        if (IsFinished(job.state)) {
          return job;
        }
        MOESCOPE_RETURN_IF_ERROR(
            EndJob(job, JobState::kCancelled, reason, "", now));
        MOESCOPE_RETURN_IF_ERROR(DropUnwanted(job.execution_id, now));
        return LoadJob(job_id);
      });
}

absl::Status SqliteJobStore::TouchCaller(absl::string_view job_id,
                                         std::optional<absl::Time> until,
                                         absl::Time /*now*/) {
  return Transact("touch_caller", Access::kWrite, [&]() -> absl::Status {
    MOESCOPE_RETURN_IF_ERROR(LoadJob(job_id).status());
    Statement update = database_->Prepare(
        "UPDATE jobs SET caller_expires = ? WHERE id = ? AND state IN (1, 2)");
    return update.Bind(until).Bind(job_id).Run();
  });
}

}  // namespace moescope::internal
