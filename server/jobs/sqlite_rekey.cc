// Queued work of a numerics class or analysis version that is not served any
// more.
#include <algorithm>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "server/jobs/sqlite_job_store_internal.h"

namespace moescope::internal {

absl::StatusOr<std::vector<std::string>> SqliteJobStore::ListUnserved(
    const ClaimRequest& request) {
  using Ids = absl::StatusOr<std::vector<std::string>>;
  return Transact("list_unserved", Access::kRead, [&]() -> Ids {
    Statement query = database_->Prepare(
        "SELECT id, lane, numerics_class, analysis, analysis_version "
        "FROM executions WHERE state = 1 ORDER BY create_time, id");
    std::vector<std::string> ids;
    while (true) {
      MOESCOPE_ASSIGN_OR_RETURN(const bool row, query.Step());
      if (!row) {
        return ids;
      }
      ExecutionRecord queued;
      queued.lane = query.Text(1);
      queued.numerics_class = query.Text(2);
      queued.analysis = query.Text(3);
      queued.analysis_version = query.Int(4);
      if (std::find(request.lanes.begin(), request.lanes.end(), queued.lane) !=
              request.lanes.end() &&
          !Serves(request, queued)) {
        ids.push_back(query.Text(0));
      }
    }
  });
}

absl::StatusOr<std::optional<ExecutionRecord>> SqliteJobStore::FindOtherShared(
    absl::string_view key, absl::string_view execution_id) {
  Statement query = database_->Prepare(
      "SELECT " MOESCOPE_EXECUTION_COLUMNS
      " FROM executions WHERE key = ?1 AND id <> ?2 AND state IN (1, 2) "
      "AND shared = 1 AND (SELECT shared FROM executions WHERE id = ?2) = 1 "
      "AND " MOESCOPE_HAS_LIVE_JOB " ORDER BY create_time LIMIT 1");
  query.Bind(key).Bind(execution_id);
  MOESCOPE_ASSIGN_OR_RETURN(const bool found, query.Step());
  return found ? std::make_optional(ReadExecution(query)) : std::nullopt;
}

absl::Status SqliteJobStore::Rekey(absl::string_view execution_id,
                                   const Rekeyed& rekeyed, absl::Time now) {
  return Transact("rekey", Access::kWrite, [&]() -> absl::Status {
    MOESCOPE_ASSIGN_OR_RETURN(const ExecutionRecord execution,
                              LoadExecution(execution_id));
    if (execution.state != JobState::kQueued) {
      return FieldError(absl::StatusCode::kFailedPrecondition, "execution",
                        absl::StrCat("\"", execution_id, "\" is ",
                                     JobStateName(execution.state),
                                     ", not queued"),
                        "NOT_QUEUED");
    }
    MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ExecutionRecord> other,
                              FindOtherShared(rekeyed.key, execution_id));
    const ExecutionRecord& home = other.has_value() ? *other : execution;
    Statement jobs = database_->Prepare(
        "UPDATE jobs SET key = ?, analysis_version = ?, execution_id = ?, "
        "state = ?, sequence = sequence + 1, stage = '', done = 0, total = 0, "
        "unit = '', expected_end = NULL WHERE execution_id = ? AND state = 1");
    jobs.Bind(rekeyed.key).Bind(rekeyed.analysis_version).Bind(home.id);
    jobs.Bind(static_cast<std::int64_t>(home.state)).Bind(execution_id);
    MOESCOPE_RETURN_IF_ERROR(jobs.Run());
    changed_ = true;
    if (other.has_value()) {
      return EndExecution(execution, JobState::kCancelled, now);
    }
    Statement update = database_->Prepare(
        "UPDATE executions SET key = ?, numerics_class = ?, "
        "analysis_version = ?, attempt = 0, committed_records = 0, "
        "committed_bytes = 0, committed_digest = '', committed_fence = 0, "
        "resume_position = '', stage = '', done = 0, total = 0, unit = '', "
        "expected_end = NULL WHERE id = ?");
    update.Bind(rekeyed.key).Bind(rekeyed.numerics_class);
    update.Bind(rekeyed.analysis_version).Bind(execution_id);
    return update.Run();
  });
}

}  // namespace moescope::internal
