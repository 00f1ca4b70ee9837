// The calls of Service about jobs and results.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "moescope/base/error.h"
#include "moescope/base/quote_name.h"
#include "moescope/base/status_macros.h"
#include "server/service/result_stream_internal.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

// The live job that makes result `key`.
absl::StatusOr<JobRecord> LiveJobOf(JobStore& store, absl::string_view key) {
  MOESCOPE_ASSIGN_OR_RETURN(std::optional<JobRecord> job,
                            store.FindLiveJob(key));
  if (!job.has_value()) {
    return FieldError(absl::StatusCode::kNotFound, "name",
                      absl::StrCat("there is no result ", QuoteName(key),
                                   ": unknown or evicted"),
                      "RESULT_NOT_FOUND");
  }
  return *std::move(job);
}

absl::Status CheckFirstChunk(std::int64_t first_chunk) {
  if (first_chunk < 0) {
    return InvalidField("first_chunk",
                        absl::StrCat(first_chunk, " is negative"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<JobRecord> Service::GetJob(absl::string_view id) {
  return state_->store->GetJob(id);
}

absl::StatusOr<JobPage> Service::ListJobs(const JobFilter& filter,
                                          std::int64_t page_size,
                                          absl::string_view page_token) {
  return state_->store->ListJobs(filter, page_size, page_token);
}

absl::StatusOr<QueuePlaces> Service::GetQueuePlaces() {
  const absl::Time now = state_->clock.Now();
  MOESCOPE_ASSIGN_OR_RETURN(
      const QueueOrder order,
      state_->store->GetQueueOrder(state_->registry->ReadyModels(), now));
  // Seconds of work that a lane has before it, and its places.
  std::map<std::string, double> seconds;
  std::map<std::string, std::int64_t> ahead;
  for (const QueueOrder::Running& running : order.running) {
    seconds[running.lane] += running.remaining_seconds;
  }
  QueuePlaces places;
  for (const QueueOrder::Queued& queued : order.queued) {
    const double lanes =
        queued.lane == kComputeLane ? std::max(1, state_->options.workers) : 1;
    QueuePlace& place = places[queued.execution_id];
    place.position = ahead[queued.lane]++;
    place.eta_seconds =
        seconds[queued.lane] / lanes + queued.estimated_seconds;
    seconds[queued.lane] += queued.estimated_seconds;
  }
  return places;
}

absl::StatusOr<JobRecord> Service::CancelJob(absl::string_view id) {
  return state_->store->CancelJob(
      id, absl::CancelledError("the client cancelled the job"),
      state_->clock.Now());
}

absl::StatusOr<JobRecord> Service::WatchJob(absl::string_view id,
                                            std::int64_t after_sequence,
                                            absl::Duration timeout,
                                            const RunContext& context) {
  constexpr absl::Duration kLook = absl::Milliseconds(100);
  const absl::Time end = absl::Now() + timeout;
  for (;;) {
    const std::int64_t version = state_->notifier.version();
    MOESCOPE_ASSIGN_OR_RETURN(JobRecord job, state_->store->GetJob(id));
    if (job.sequence > after_sequence || absl::Now() >= end) {
      return job;
    }
    // A change by another process gives no hint, so the wait is short.
    const absl::Time look_again =
        std::min(end, absl::Now() + absl::Seconds(1));
    while (absl::Now() < look_again &&
           state_->notifier.WaitFor(version, kLook) == version) {
      MOESCOPE_RETURN_IF_ERROR(context.Check());
    }
    MOESCOPE_RETURN_IF_ERROR(context.Check());
  }
}

absl::StatusOr<ResultView> Service::GetResult(absl::string_view name) {
  const auto row = state_->store->GetResult(name);
  if (row.ok()) {
    return ViewOf(*row);
  }
  MOESCOPE_ASSIGN_OR_RETURN(const JobRecord job,
                            LiveJobOf(*state_->store, name));
  ResultView view;
  view.name = job.key;
  if (!job.execution_id.empty()) {
    MOESCOPE_ASSIGN_OR_RETURN(const ExecutionRecord execution,
                              state_->store->GetExecution(job.execution_id));
    view.chunks = execution.committed.records;
    view.size_bytes = execution.committed.bytes;
    view.digest = execution.committed.digest;
  }
  return view;
}

absl::StatusOr<std::unique_ptr<ResultStream>> Service::ReadResult(
    absl::string_view name, std::int64_t first_chunk) {
  MOESCOPE_RETURN_IF_ERROR(CheckFirstChunk(first_chunk));
  const auto row = state_->store->GetResult(name);
  if (row.ok()) {
    return OpenFinished(*state_, *row, first_chunk);
  }
  MOESCOPE_ASSIGN_OR_RETURN(const JobRecord job,
                            LiveJobOf(*state_->store, name));
  return FollowJob(*state_, job, Reader::kResult, first_chunk);
}

absl::StatusOr<std::unique_ptr<ResultStream>> Service::ReadJobResult(
    absl::string_view job_id, std::int64_t first_chunk) {
  MOESCOPE_RETURN_IF_ERROR(CheckFirstChunk(first_chunk));
  const absl::StatusOr<JobRecord> found = state_->store->GetJob(job_id);
  if (absl::IsNotFound(found.status())) {
    return FieldError(absl::StatusCode::kNotFound, "job_id",
                      absl::StrCat("\"", job_id, "\" is unknown or expired"),
                      GetErrorDetails(found.status()).reason);
  }
  MOESCOPE_RETURN_IF_ERROR(found.status());
  const JobRecord& job = *found;
  const bool is_of_a_call =
      job.caller_expires.has_value() && !IsFinished(job.state);
  if (is_of_a_call) {
    // Its connection was lost; not much of the grace may be left.
    RenewCallerLease(*state_, job.id);
  }
  return FollowJob(*state_, job,
                   is_of_a_call ? Reader::kCaller : Reader::kJob, first_chunk);
}

}  // namespace moescope
