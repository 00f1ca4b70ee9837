#include "moescope/base/log.h"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "moescope/base/mutex.h"

namespace moescope {
namespace {

std::atomic<LogLevel> minimum_level{LogLevel::kInfo};

struct Sink {
  Mutex mutex;
  std::function<void(absl::string_view)> function ABSL_GUARDED_BY(mutex);
};

Sink& GlobalSink() {
  static Sink* const sink = new Sink;
  return *sink;
}

absl::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

// Length of the valid UTF-8 sequence at the start of `text`, or 0.
std::size_t Utf8SequenceLength(absl::string_view text) {
  const auto byte = [&](std::size_t i) {
    return static_cast<unsigned char>(text[i]);
  };
  const unsigned char first = byte(0);
  if (first < 0x80) {
    return 1;
  }
  const std::size_t length =
      first >= 0xf0 && first < 0xf5 ? 4
      : first >= 0xe0 && first < 0xf0 ? 3
      : first >= 0xc2 && first < 0xe0 ? 2
                                      : 0;
  if (length == 0 || text.size() < length) {
    return 0;
  }
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) {
      return 0;
    }
  }
  const bool overlong = (first == 0xe0 && byte(1) < 0xa0) ||
                        (first == 0xf0 && byte(1) < 0x90);
  const bool surrogate = first == 0xed && byte(1) >= 0xa0;
  const bool too_large = first == 0xf4 && byte(1) >= 0x90;
  return overlong || surrogate || too_large ? 0 : length;
}

}  // namespace

std::string JsonQuote(absl::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const std::size_t length = Utf8SequenceLength(text);
    if (length == 0) {
      out += "\xef\xbf\xbd";
      text.remove_prefix(1);
      continue;
    }
    const char c = text[0];
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", text.substr(0, 1));
    } else if (c == '\n') {
      out += "\\n";
    } else if (length == 1 && static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<unsigned char>(c));
    } else {
      absl::StrAppend(&out, text.substr(0, length));
    }
    text.remove_prefix(length);
  }
  out += '"';
  return out;
}

LogValue::LogValue(absl::string_view text) : json_(JsonQuote(text)) {}
LogValue::LogValue(const char* text) : json_(JsonQuote(text)) {}
LogValue::LogValue(const std::string& text) : json_(JsonQuote(text)) {}
LogValue::LogValue(std::int64_t number) : json_(absl::StrCat(number)) {}
LogValue::LogValue(int number) : json_(absl::StrCat(number)) {}
LogValue::LogValue(double number)
    : json_(std::isfinite(number) ? absl::StrCat(number) : "null") {}
LogValue::LogValue(bool value) : json_(value ? "true" : "false") {}

void Log(LogLevel level, absl::string_view event,
         std::initializer_list<LogField> fields) {
  if (level < minimum_level.load(std::memory_order_relaxed)) {
    return;
  }
  std::string line = absl::StrCat(
      "{\"time\":\"",
      absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::Now(),
                       absl::UTCTimeZone()),
      "\",\"level\":\"", LevelName(level), "\",\"event\":", JsonQuote(event));
  for (const LogField& field : fields) {
    absl::StrAppend(&line, ",", JsonQuote(field.first), ":",
                    field.second.json());
  }
  line += "}\n";
  Sink& sink = GlobalSink();
  const MutexLock lock(sink.mutex);
  if (sink.function) {
    sink.function(line);
  } else {
    std::fwrite(line.data(), 1, line.size(), stderr);
  }
}

void SetLogLevel(LogLevel level) {
  minimum_level.store(level, std::memory_order_relaxed);
}

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view text) {
  for (const LogLevel level : {LogLevel::kDebug, LogLevel::kInfo,
                               LogLevel::kWarning, LogLevel::kError}) {
    if (text == LevelName(level)) {
      return level;
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", text, "\" is none of debug, info, warning, error"));
}

void SetLogSink(std::function<void(absl::string_view)> sink) {
  Sink& global = GlobalSink();
  const MutexLock lock(global.mutex);
  global.function = std::move(sink);
}

}  // namespace moescope
