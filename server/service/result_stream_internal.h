#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "moescope/results/result_store.h"
#include "moescope/service/result_stream.h"
#include "server/service/state_internal.h"

namespace moescope {

/// Who reads the stream of a job.
enum class Reader {
  kCaller,  ///< The caller that the job lives for.
  kJob,     ///< Who asked for this job's result.
  kResult,  ///< Who asked for the result, whichever job makes it.
};

struct ResultStream::State {
  explicit State(Service::State& service_in) : service(service_in) {}

  Service::State& service;
  std::string key;
  Reader of = Reader::kJob;
  /// Followed for the outcome; empty: a finished result is read.
  std::string job_id;
  /// Of the job's caller; nullptr for other readers.
  std::unique_ptr<CallerLease> lease;
  std::int64_t next_chunk = 0;
  std::unique_ptr<LogReader> reader;
  /// Fence of the running log that `reader` reads; 0 for a sealed one.
  std::int64_t fence = 0;
  /// The finished result that `reader` reads. Its name is that of the log, which
  /// an alias is not.
  std::optional<ResultRow> row;
  bool at_end = false;
};

/// A stream over the finished result `row`.
/// Errors: NOT_FOUND (its bytes are damaged or gone: the row is then forgotten),
/// OUT_OF_RANGE field "first_chunk".
absl::StatusOr<std::unique_ptr<ResultStream>> OpenFinished(
    Service::State& service, ResultRow row, std::int64_t first_chunk);

/// A stream that follows `job`. For its caller it also keeps the job alive.
std::unique_ptr<ResultStream> FollowJob(Service::State& service,
                                        const JobRecord& job, Reader reader,
                                        std::int64_t first_chunk);

/// The row as clients see it.
absl::StatusOr<ResultView> ViewOf(const ResultRow& row);

}  // namespace moescope
