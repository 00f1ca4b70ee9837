#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <sqlite3.h>
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace moescope::internal {

/// Reason of every failure of the database itself.
inline constexpr char kStoreFailed[] = "STORE_FAILED";

/// A prepared statement in use: values are bound from left to right, columns
/// read by number. The first failure is kept and returned by Step. Going out of
/// scope makes the statement free for its next use.
class Statement {
 public:
  Statement(sqlite3* database, sqlite3_stmt* statement, absl::Status status);
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(std::int64_t value);
  Statement& Bind(double value);
  Statement& Bind(absl::string_view text);
  Statement& Bind(const std::string& text);
  Statement& Bind(const char* text);
  Statement& Bind(absl::Time time);
  Statement& Bind(const std::optional<absl::Time>& time);
  /// As bytes that are not text.
  Statement& BindBlob(absl::string_view bytes);

  /// Goes to the next row; false after the last.
  absl::StatusOr<bool> Step();
  /// For statements without rows.
  absl::Status Run();

  /// Of the current row.
  std::int64_t Int(int column) const;
  double Real(int column) const;
  std::string Text(int column) const;
  absl::Time Time(int column) const;
  std::optional<absl::Time> OptionalTime(int column) const;

 private:
  void Keep(int result);

  sqlite3* const database_;
  sqlite3_stmt* const statement_;
  absl::Status status_;
  int bound_ = 0;
};

/// One connection. Threads: one at a time.
class Database {
 public:
  static absl::StatusOr<std::unique_ptr<Database>> Open(
      const std::string& path, absl::Duration busy_timeout);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// `sql` is a literal: it is the key under which the statement is kept. The
  /// same literal is not in use twice at a time.
  Statement Prepare(const char* sql);
  /// Any number of statements without values.
  absl::Status Execute(const char* sql);
  /// Rows that the last statement changed.
  std::int64_t changes() const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const {
      sqlite3_finalize(statement);
    }
  };

  explicit Database(sqlite3* database) : database_(database) {}

  sqlite3* const database_;
  std::map<std::string, std::unique_ptr<sqlite3_stmt, Finalize>> statements_;
};

/// Rolls back unless committed.
class Transaction {
 public:
  explicit Transaction(Database& database) : database_(database) {}
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  /// `writes`: takes the write lock at once, so that it can't fail half way.
  absl::Status Begin(bool writes);
  absl::Status Commit();

 private:
  Database& database_;
  bool open_ = false;
};

/// Brings the tables to this version of the program. Errors:
/// FAILED_PRECONDITION SCHEMA_TOO_NEW.
absl::Status MigrateSchema(Database& database);

}  // namespace moescope::internal
