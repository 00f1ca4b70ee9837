#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "moescope/base/clock.h"
#include "moescope/base/sha256.h"
#include "moescope/results/result_log.h"
#include "server/results/log_source_internal.h"

namespace moescope::internal {

struct LogWriterState {
  std::string key;
  std::int64_t fence = 0;
  std::string folder;
  std::string path;
  Clock* clock = nullptr;
  FileDescriptor file;
  Sha256 digest;  // Of committed and pending payloads.
  std::string pending;
  std::int64_t pending_records = 0;
  absl::Time pending_since;
  LogExtent extent;
  absl::Status failure;
};

/// A writer of a new file `path` in `folder`, replacing what is there.
absl::StatusOr<std::unique_ptr<LogWriter>> CreateLogWriter(
    absl::string_view key, std::int64_t fence, std::string folder,
    std::string path, Clock& clock);

/// `payload` as it enters a log's digest.
void AddToDigest(Sha256& digest, absl::string_view payload);

}  // namespace moescope::internal
