#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "moescope/base/clock.h"

namespace moescope {

namespace internal {
class LogSource;
struct LogWriterState;
}  // namespace internal

/// How far a log is committed. Whoever keeps the row of an execution stores
/// it; a reader obeys it and not the file's size.
struct LogExtent {
  std::int64_t records = 0;
  /// Length of the file up to the end of the last record, its header included;
  /// 0: nothing was committed, and there may be no file.
  std::int64_t bytes = 0;
  /// SHA-256 (64 hex digits) over all payloads, each preceded by its length as
  /// 8 bytes, little-endian. Empty while `bytes` is 0.
  std::string digest;

  friend bool operator==(const LogExtent& a, const LogExtent& b) {
    return a.records == b.records && a.bytes == b.bytes && a.digest == b.digest;
  }
  friend bool operator!=(const LogExtent& a, const LogExtent& b) {
    return !(a == b);
  }
};

/// The longest payload of one record.
inline constexpr std::int64_t kMaxRecordBytes = std::int64_t{1} << 30;
/// A group of records is committed when it has this many bytes …
inline constexpr std::int64_t kCommitBytes = std::int64_t{8} << 20;
/// … or when its first record has waited this long.
inline constexpr absl::Duration kCommitInterval = absl::Seconds(1);

/// Writes the log of one execution. Made by ResultStore::StartLog; what was
/// appended but not committed is lost with the writer.
///
/// File: "MOESCLOG", u32 version, u32 CRC-32C of version and key, the key's 64
/// hex digits; then records {u32 length, u32 CRC-32C of length and payload,
/// payload}. Numbers are little-endian.
/// Threads: one at a time.
class LogWriter {
 public:
  explicit LogWriter(std::unique_ptr<internal::LogWriterState> state);
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  const std::string& key() const;
  std::int64_t fence() const;

  /// Adds a record to the group that the next Commit makes durable.
  /// Errors: RESOURCE_EXHAUSTED above kMaxRecordBytes; the failure of an
  /// earlier Commit.
  absl::Status Append(absl::string_view payload);

  /// Whether the group is large or old enough (kCommitBytes, kCommitInterval).
  bool ShouldCommit() const;

  /// Writes the group, waits until it is on disk and returns the new extent;
  /// cheap when there is nothing to write. After a failure the writer is of no
  /// further use: start again from the last extent.
  /// Errors: RESOURCE_EXHAUSTED (disk full), INTERNAL.
  absl::StatusOr<LogExtent> Commit();

  /// What was committed last.
  const LogExtent& extent() const;
  /// Records committed and pending: the number of the next one.
  std::int64_t next_record() const;

 private:
  friend class ResultStore;
  std::unique_ptr<internal::LogWriterState> state_;
};

/// Reads the records of a log up to an extent. Made by ResultStore; stays valid
/// when the log is moved, evicted or removed meanwhile.
/// Threads: one at a time.
class LogReader {
 public:
  /// `source` holds the file's bytes; `pin` is kept as long as the reader.
  LogReader(std::unique_ptr<internal::LogSource> source, std::string key,
            LogExtent extent, std::int64_t first_record,
            std::shared_ptr<const void> pin);
  ~LogReader();
  LogReader(const LogReader&) = delete;
  LogReader& operator=(const LogReader&) = delete;

  /// The next payload, valid until the next call; nullopt at the end of the
  /// extent. Records before the first one asked for are stepped over.
  /// Errors: DATA_LOSS when the file is shorter than its extent or a header or
  /// CRC is wrong; NOT_FOUND when the file is gone; INTERNAL.
  absl::StatusOr<std::optional<absl::string_view>> Next();

  /// Lets a reader that follows a running execution see what was committed
  /// since. `extent` must contain the present one (else INVALID_ARGUMENT).
  absl::Status ExtendTo(LogExtent extent);

  const LogExtent& extent() const { return extent_; }
  /// Number of the record that Next returns.
  std::int64_t next_record() const;

 private:
  absl::Status ReadHeader();
  absl::Status SkipToFirst();
  absl::StatusOr<absl::string_view> ReadRecord(bool skip);

  const std::unique_ptr<internal::LogSource> source_;
  const std::string key_;
  const std::int64_t first_record_;
  const std::shared_ptr<const void> pin_;
  LogExtent extent_;
  std::int64_t position_ = 0;  // Record that lies at offset_.
  std::int64_t offset_ = 0;
};

}  // namespace moescope
