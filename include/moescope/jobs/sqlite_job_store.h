#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "moescope/jobs/change_notifier.h"
#include "moescope/jobs/job_store.h"
#include "moescope/telemetry/metrics.h"

namespace moescope {

struct SqliteJobStoreOptions {
  /// Database file on a local file system; made when missing.
  std::string path;
  /// How long to wait for another process that has the file locked.
  absl::Duration busy_timeout = absl::Seconds(5);
  JobStoreLimits limits;
  /// Told of every change; may be null. Outlives the store.
  ChangeNotifier* notifier = nullptr;
  /// May be null. Outlives the store.
  Metrics* metrics = nullptr;
};

/// A store in one SQLite file (write-ahead log, synchronous=FULL: what a call
/// acknowledged survives a power cut). Errors: FAILED_PRECONDITION
/// SCHEMA_TOO_NEW for a file of a later version, DATA_LOSS for one that is not
/// a database of ours, INTERNAL.
absl::StatusOr<std::unique_ptr<JobStore>> OpenSqliteJobStore(
    SqliteJobStoreOptions options);

}  // namespace moescope
