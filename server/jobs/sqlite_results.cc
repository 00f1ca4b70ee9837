#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/quote_name.h"
#include "moescope/base/status_macros.h"
#include "server/jobs/sqlite_job_store_internal.h"

namespace moescope::internal {
namespace {

ResultRow ReadResult(const Statement& row) {
  ResultRow result;
  result.key = row.Text(0);
  result.analysis = row.Text(1);
  result.bytes = row.Int(2);
  result.records = row.Int(3);
  result.digest = row.Text(4);
  result.provenance = row.Text(5);
  result.created = row.Time(6);
  result.last_used = row.Time(7);
  return result;
}

absl::Status ResultNotFound(absl::string_view key) {
  return FieldError(absl::StatusCode::kNotFound, "name",
                    absl::StrCat(QuoteName(key), " is unknown or evicted"),
                    "RESULT_NOT_FOUND");
}

}  // namespace

absl::StatusOr<std::optional<ResultRow>> SqliteJobStore::FindResult(
    absl::string_view key) {
  Statement query = database_->Prepare(
      "SELECT key, analysis, bytes, records, digest, provenance, created, "
      "last_used FROM results WHERE key = ?1 OR key = "
      "(SELECT key FROM result_aliases WHERE alias = ?1) "
      "ORDER BY key = ?1 DESC LIMIT 1");
  query.Bind(key);
  MOESCOPE_ASSIGN_OR_RETURN(const bool found, query.Step());
  return found ? std::make_optional(ReadResult(query)) : std::nullopt;
}

absl::Status SqliteJobStore::FileResult(const ResultRow& result) {
  Statement insert = database_->Prepare(
      "INSERT OR REPLACE INTO results (key, analysis, bytes, records, digest, "
      "provenance, created, last_used) VALUES (?,?,?,?,?,?,?,?)");
  insert.Bind(result.key).Bind(result.analysis).Bind(result.bytes);
  insert.Bind(result.records).Bind(result.digest);
  insert.BindBlob(result.provenance).Bind(result.created);
  insert.Bind(result.last_used);
  MOESCOPE_RETURN_IF_ERROR(insert.Run());
  for (const std::string& alias : result.alias_keys) {
    Statement add = database_->Prepare(
        "INSERT OR REPLACE INTO result_aliases (alias, key) VALUES (?, ?)");
    MOESCOPE_RETURN_IF_ERROR(add.Bind(alias).Bind(result.key).Run());
  }
  return absl::OkStatus();
}

absl::StatusOr<ResultRow> SqliteJobStore::GetResult(absl::string_view key) {
  return Transact(
      "get_result", Access::kRead, [&]() -> absl::StatusOr<ResultRow> {
        MOESCOPE_ASSIGN_OR_RETURN(std::optional<ResultRow> result,
                                  FindResult(key));
        if (!result.has_value()) {
          return ResultNotFound(key);
        }
        return *std::move(result);
      });
}

absl::Status SqliteJobStore::AddResultAlias(absl::string_view key,
                                            absl::string_view alias) {
  return Transact("add_alias", Access::kWrite, [&]() -> absl::Status {
    MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ResultRow> result,
                              FindResult(key));
    if (!result.has_value()) {
      return ResultNotFound(key);
    }
    Statement add = database_->Prepare(
        "INSERT OR REPLACE INTO result_aliases (alias, key) VALUES (?, ?)");
    return add.Bind(alias).Bind(result->key).Run();
  });
}

absl::Status SqliteJobStore::DeleteResult(absl::string_view key) {
  return Transact("delete_result", Access::kWrite, [&]() -> absl::Status {
    MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ResultRow> result,
                              FindResult(key));
    if (!result.has_value()) {
      return absl::OkStatus();
    }
    Statement remove =
        database_->Prepare("DELETE FROM results WHERE key = ?");
    MOESCOPE_RETURN_IF_ERROR(remove.Bind(result->key).Run());
    Statement expire = database_->Prepare(
        "UPDATE jobs SET state = 6, sequence = sequence + 1 "
        "WHERE result_key = ? AND result_key <> '' AND state = 3");
    MOESCOPE_RETURN_IF_ERROR(expire.Bind(result->key).Run());
    changed_ = changed_ || database_->changes() > 0;
    return absl::OkStatus();
  });
}

}  // namespace moescope::internal
