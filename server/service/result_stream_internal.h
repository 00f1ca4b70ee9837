#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "moescope/results/result_store.h"
#include "moescope/service/result_stream.h"
#include "server/service/state_internal.h"

namespace moescope {

struct ResultStream::State {
  explicit State(Service::State& service_in) : service(service_in) {}

  Service::State& service;
  std::string key;
  /// Followed for the outcome; empty: a finished result is read.
  std::string job_id;
  /// Whether the job lives and ends with this stream.
  bool owns_job = false;
  std::int64_t next_chunk = 0;
  std::unique_ptr<LogReader> reader;
  /// Fence of the running log that `reader` reads; 0 for a sealed one.
  std::int64_t fence = 0;
  bool sealed = false;
  /// Name of the sealed log, which an alias of it is not.
  std::string sealed_key;
  bool at_end = false;
  absl::Time touched = absl::InfinitePast();
};

/// A stream over the finished result `row`.
/// Errors: NOT_FOUND (its bytes are damaged or gone: the row is then forgotten),
/// OUT_OF_RANGE field "first_chunk".
absl::StatusOr<std::unique_ptr<ResultStream>> OpenFinished(
    Service::State& service, const ResultRow& row, std::int64_t first_chunk);

/// A stream that follows `job`.
std::unique_ptr<ResultStream> FollowJob(Service::State& service,
                                        const JobRecord& job, bool owns_job,
                                        std::int64_t first_chunk);

/// The row as clients see it.
absl::StatusOr<ResultView> ViewOf(const ResultRow& row);

}  // namespace moescope
