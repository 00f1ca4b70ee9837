#include <array>
#include <cstddef>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "server/jobs/sqlite_internal.h"

namespace moescope::internal {
namespace {

// Step i brings version i to i + 1. A step that was released never changes.
// Times are microseconds since 1970. A fence comes from one counter for all
// executions, so that key and fence name a log file for ever.
constexpr std::array<const char*, 2> kSteps = {R"sql(
CREATE TABLE jobs (
  id TEXT PRIMARY KEY,
  client TEXT NOT NULL,
  request_id TEXT NOT NULL,
  request_hash TEXT NOT NULL,
  analysis TEXT NOT NULL,
  analysis_version INTEGER NOT NULL,
  spec BLOB NOT NULL,
  key TEXT NOT NULL,
  priority INTEGER NOT NULL,
  lane TEXT NOT NULL,
  state INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  create_time INTEGER NOT NULL,
  start_time INTEGER,
  finish_time INTEGER,
  deadline INTEGER,
  caller_expires INTEGER,
  attempt INTEGER NOT NULL DEFAULT 0,
  execution_id TEXT NOT NULL,
  stage TEXT NOT NULL DEFAULT '',
  done INTEGER NOT NULL DEFAULT 0,
  total INTEGER NOT NULL DEFAULT 0,
  unit TEXT NOT NULL DEFAULT '',
  estimated_seconds REAL NOT NULL,
  real_seconds REAL NOT NULL DEFAULT 0,
  result_key TEXT NOT NULL DEFAULT '',
  error_code INTEGER NOT NULL DEFAULT 0,
  error_message TEXT NOT NULL DEFAULT '',
  error_details BLOB NOT NULL DEFAULT '',
  traceparent TEXT NOT NULL,
  server_version TEXT NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX jobs_by_request ON jobs (client, request_id)
  WHERE request_id <> '';
CREATE INDEX jobs_by_execution ON jobs (execution_id, state);
CREATE INDEX jobs_by_state ON jobs (state, finish_time);
CREATE INDEX jobs_by_time ON jobs (create_time, id);

CREATE TABLE executions (
  id TEXT PRIMARY KEY,
  key TEXT NOT NULL,
  shared INTEGER NOT NULL,
  client TEXT NOT NULL,
  analysis TEXT NOT NULL,
  analysis_version INTEGER NOT NULL,
  spec BLOB NOT NULL,
  numerics_class TEXT NOT NULL,
  lane TEXT NOT NULL,
  affinity TEXT NOT NULL,
  priority INTEGER NOT NULL,
  state INTEGER NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0,
  owner TEXT NOT NULL DEFAULT '',
  lease_until INTEGER,
  fence INTEGER NOT NULL DEFAULT 0,
  committed_records INTEGER NOT NULL DEFAULT 0,
  committed_bytes INTEGER NOT NULL DEFAULT 0,
  committed_digest TEXT NOT NULL DEFAULT '',
  committed_fence INTEGER NOT NULL DEFAULT 0,
  resume_position BLOB NOT NULL DEFAULT '',
  stage TEXT NOT NULL DEFAULT '',
  done INTEGER NOT NULL DEFAULT 0,
  total INTEGER NOT NULL DEFAULT 0,
  unit TEXT NOT NULL DEFAULT '',
  estimated_seconds REAL NOT NULL,
  traceparent TEXT NOT NULL,
  create_time INTEGER NOT NULL,
  start_time INTEGER,
  finish_time INTEGER
) WITHOUT ROWID;
CREATE INDEX executions_by_key ON executions (key, state);
CREATE INDEX executions_by_state ON executions (state, finish_time);
CREATE INDEX executions_by_start ON executions (start_time);

CREATE TABLE results (
  key TEXT PRIMARY KEY,
  analysis TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  records INTEGER NOT NULL,
  digest TEXT NOT NULL,
  provenance BLOB NOT NULL,
  created INTEGER NOT NULL,
  last_used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX results_by_time ON results (created, key);
CREATE TABLE result_aliases (
  alias TEXT PRIMARY KEY,
  key TEXT NOT NULL REFERENCES results (key) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX result_aliases_by_key ON result_aliases (key);

CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)
  WITHOUT ROWID;
INSERT INTO counters VALUES ('fence', 0);
)sql",
                                                   R"sql(
ALTER TABLE jobs ADD COLUMN expected_end INTEGER;
ALTER TABLE executions ADD COLUMN expected_end INTEGER;
CREATE INDEX jobs_by_key ON jobs (key, state);
CREATE INDEX jobs_by_result ON jobs (result_key) WHERE result_key <> '';
)sql"};

}  // namespace

absl::Status MigrateSchema(Database& database) {
  Transaction transaction(database);
  MOESCOPE_RETURN_IF_ERROR(transaction.Begin(true));
  std::int64_t version = 0;
  {
    Statement query = database.Prepare("PRAGMA user_version");
    MOESCOPE_RETURN_IF_ERROR(query.Step().status());
    version = query.Int(0);
  }
  const auto newest = static_cast<std::int64_t>(kSteps.size());
  if (version < 0 || version > newest) {
    ErrorDetails details;
    details.reason = "SCHEMA_TOO_NEW";
    return MakeError(
        absl::StatusCode::kFailedPrecondition,
        absl::StrCat("job store: schema version ", version,
                     " is of a later program; this one knows up to ", newest),
        details);
  }
  for (; version < newest; ++version) {
    MOESCOPE_RETURN_IF_ERROR(
        database.Execute(kSteps[static_cast<std::size_t>(version)]));
  }
  MOESCOPE_RETURN_IF_ERROR(database.Execute(
      absl::StrCat("PRAGMA user_version=", newest).c_str()));
  return transaction.Commit();
}

}  // namespace moescope::internal
