#include <utility>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "server/jobs/sqlite_internal.h"

namespace moescope::internal {
namespace {

absl::StatusCode CodeOf(int result) {
  switch (result & 0xff) {
    case SQLITE_FULL:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::StatusCode::kUnavailable;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::StatusCode::kDataLoss;
    default:
      return absl::StatusCode::kInternal;
  }
}

absl::Status StoreError(int result, absl::string_view message) {
  ErrorDetails details;
  details.reason = kStoreFailed;
  details.metadata["sqlite"] = absl::StrCat(result);
  return MakeError(CodeOf(result), absl::StrCat("job store: ", message),
                   details);
}

}  // namespace

Statement::Statement(sqlite3* database, sqlite3_stmt* statement,
                     absl::Status status)
    : database_(database), statement_(statement), status_(std::move(status)) {}

Statement::~Statement() {
  if (statement_ != nullptr) {
    // The result repeats the failure of the last step, reported already.
    (void)sqlite3_reset(statement_);
    (void)sqlite3_clear_bindings(statement_);
  }
}

void Statement::Keep(int result) {
  if (result != SQLITE_OK && status_.ok()) {
    status_ = StoreError(result, sqlite3_errmsg(database_));
  }
}

Statement& Statement::Bind(std::int64_t value) {
  Keep(sqlite3_bind_int64(statement_, ++bound_, value));
  return *this;
}

Statement& Statement::Bind(double value) {
  Keep(sqlite3_bind_double(statement_, ++bound_, value));
  return *this;
}

Statement& Statement::Bind(absl::string_view text) {
  // A null pointer would bind NULL instead of the empty text.
  const char* const data = text.empty() ? "" : text.data();
  Keep(sqlite3_bind_text64(statement_, ++bound_, data, text.size(),
                           SQLITE_TRANSIENT, SQLITE_UTF8));
  return *this;
}

Statement& Statement::Bind(const std::string& text) {
  return Bind(absl::string_view(text));
}

Statement& Statement::Bind(const char* text) {
  return Bind(absl::string_view(text));
}

Statement& Statement::Bind(absl::Time time) {
  return Bind(absl::ToUnixMicros(time));
}

Statement& Statement::Bind(const std::optional<absl::Time>& time) {
  if (time.has_value()) {
    return Bind(*time);
  }
  Keep(sqlite3_bind_null(statement_, ++bound_));
  return *this;
}

Statement& Statement::BindBlob(absl::string_view bytes) {
  const char* const data = bytes.empty() ? "" : bytes.data();
  Keep(sqlite3_bind_blob64(statement_, ++bound_, data, bytes.size(),
                           SQLITE_TRANSIENT));
  return *this;
}

absl::StatusOr<bool> Statement::Step() {
  MOESCOPE_RETURN_IF_ERROR(status_);
  const int result = sqlite3_step(statement_);
  if (result == SQLITE_ROW) {
    return true;
  }
  if (result == SQLITE_DONE) {
    return false;
  }
  Keep(result);
  return status_;
}

absl::Status Statement::Run() { return Step().status(); }

std::int64_t Statement::Int(int column) const {
  return sqlite3_column_int64(statement_, column);
}

double Statement::Real(int column) const {
  return sqlite3_column_double(statement_, column);
}

std::string Statement::Text(int column) const {
  const void* const bytes = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return bytes == nullptr ? std::string()
                          : std::string(static_cast<const char*>(bytes),
                                        static_cast<std::size_t>(size));
}

absl::Time Statement::Time(int column) const {
  return absl::FromUnixMicros(Int(column));
}

std::optional<absl::Time> Statement::OptionalTime(int column) const {
  if (sqlite3_column_type(statement_, column) == SQLITE_NULL) {
    return std::nullopt;
  }
  return Time(column);
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(
    const std::string& path, absl::Duration busy_timeout) {
  sqlite3* handle = nullptr;
  const int result = sqlite3_open_v2(
      path.c_str(), &handle,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
      nullptr);
  if (handle == nullptr) {
    return StoreError(SQLITE_NOMEM, "out of memory");
  }
  // A handle comes with most failures too, and has to be closed.
  std::unique_ptr<Database> database(new Database(handle));
  if (result != SQLITE_OK) {
    return StoreError(result, sqlite3_errmsg(handle));
  }
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(
      handle, static_cast<int>(absl::ToInt64Milliseconds(busy_timeout)));
  MOESCOPE_RETURN_IF_ERROR(
      database->Execute("PRAGMA journal_mode=WAL;"
                        "PRAGMA synchronous=FULL;"
                        "PRAGMA foreign_keys=ON;"));
  return database;
}

Database::~Database() {
  statements_.clear();
  sqlite3_close(database_);
}

Statement Database::Prepare(const char* sql) {
  const auto found = statements_.find(sql);
  if (found != statements_.end()) {
    return Statement(database_, found->second.get(), absl::OkStatus());
  }
  sqlite3_stmt* statement = nullptr;
  const int result = sqlite3_prepare_v3(
      database_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (result != SQLITE_OK) {
    return Statement(database_, nullptr,
                     StoreError(result, sqlite3_errmsg(database_)));
  }
  statements_.emplace(sql, statement);
  return Statement(database_, statement, absl::OkStatus());
}

absl::Status Database::Execute(const char* sql) {
  const int result = sqlite3_exec(database_, sql, nullptr, nullptr, nullptr);
  return result == SQLITE_OK ? absl::OkStatus()
                             : StoreError(result, sqlite3_errmsg(database_));
}

std::int64_t Database::changes() const { return sqlite3_changes64(database_); }

Transaction::~Transaction() {
  if (open_) {
    // SQLite rolls back by itself after some failures; then this one fails.
    (void)database_.Execute("ROLLBACK");
  }
}

absl::Status Transaction::Begin(bool writes) {
  MOESCOPE_RETURN_IF_ERROR(
      database_.Prepare(writes ? "BEGIN IMMEDIATE" : "BEGIN").Run());
  open_ = true;
  return absl::OkStatus();
}

absl::Status Transaction::Commit() {
  MOESCOPE_RETURN_IF_ERROR(database_.Prepare("COMMIT").Run());
  open_ = false;
  return absl::OkStatus();
}

}  // namespace moescope::internal
