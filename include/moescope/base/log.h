#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// A value of a log line. Strings are quoted and escaped, numbers and booleans
/// are not.
class LogValue {
 public:
  LogValue(absl::string_view text);          // NOLINT(google-explicit-constructor)
  LogValue(const char* text);                // NOLINT(google-explicit-constructor)
  LogValue(const std::string& text);         // NOLINT(google-explicit-constructor)
  LogValue(std::int64_t number);             // NOLINT(google-explicit-constructor)
  LogValue(int number);                      // NOLINT(google-explicit-constructor)
  LogValue(double number);                   // NOLINT(google-explicit-constructor)
  LogValue(bool value);                      // NOLINT(google-explicit-constructor)
  const std::string& json() const { return json_; }

 private:
  std::string json_;
};

using LogField = std::pair<absl::string_view, LogValue>;

/// Writes one JSON object on one line of standard error: time (RFC 3339, UTC),
/// level, event, then the fields. `event` is a constant snake_case word
/// ("job_finished"). Threads: safe; lines never interleave.
void Log(LogLevel level, absl::string_view event,
         std::initializer_list<LogField> fields = {});

/// Lines below `level` are dropped. Default: kInfo.
void SetLogLevel(LogLevel level);

/// "debug", "info", "warning", "error"; anything else is INVALID_ARGUMENT.
absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text);

/// Where lines go instead of standard error; for tests. nullptr: back.
void SetLogSink(std::function<void(absl::string_view line)> sink);

/// `text` as a JSON string with its quotes. Bytes that are not valid UTF-8
/// become U+FFFD.
std::string JsonQuote(absl::string_view text);

}  // namespace moescope
