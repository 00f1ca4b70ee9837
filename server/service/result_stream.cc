#include "moescope/service/result_stream.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "moescope/base/draining.h"
#include "moescope/base/error.h"
#include "moescope/base/log.h"
#include "moescope/base/status_macros.h"
#include "moescope/codec/bytes.h"
#include "server/service/result_stream_internal.h"

namespace moescope {
namespace {

// How long a wait may take before the caller's context is looked at.
constexpr absl::Duration kLook = absl::Milliseconds(50);

LogExtent ExtentOf(const Committed& committed) {
  return {committed.records, committed.bytes, committed.digest};
}

// What to answer when a finished result can't be read: damaged bytes are never
// served, but forgotten, so that whoever asks again has them computed anew.
absl::Status Dropped(Service::State& service, const ResultRow& row,
                     const absl::Status& status) {
  if (!absl::IsDataLoss(status) && !absl::IsNotFound(status)) {
    return status;
  }
  // Unless another answer has been filed since the row was read.
  if (const auto now = service.store->GetResult(row.key);
      !now.ok() || now->digest == row.digest) {
    ForgetResult(service, row.key);
  }
  return FieldError(absl::StatusCode::kNotFound, "name",
                    absl::StrCat("the bytes of result \"", row.key,
                                 "\" are damaged or gone: ask for it again"),
                    "RESULT_NOT_FOUND");
}

absl::Status OpenSealedLog(ResultStream::State& state, ResultRow row) {
  auto reader = state.service.results->OpenSealed(row.key, ExtentOf(row),
                                                  state.next_chunk);
  if (absl::IsOutOfRange(reader.status())) {
    return FieldError(absl::StatusCode::kOutOfRange, "first_chunk",
                      absl::StrCat(state.next_chunk, " is outside [0, ",
                                   row.records, "]"));
  }
  if (!reader.ok()) {
    return Dropped(state.service, row, reader.status());
  }
  state.reader = *std::move(reader);
  state.row = std::move(row);
  return absl::OkStatus();
}

// Lets the reader see what the running execution has committed.
absl::Status FollowRunning(ResultStream::State& state,
                           const Committed& committed) {
  if (state.reader != nullptr && state.fence == committed.fence) {
    return state.reader->ExtendTo(ExtentOf(committed));
  }
  // Another attempt writes under another fence, with the same prefix.
  MOESCOPE_ASSIGN_OR_RETURN(
      state.reader,
      state.service.results->OpenRunning(state.key, committed.fence,
                                         ExtentOf(committed),
                                         state.next_chunk));
  state.fence = committed.fence;
  return absl::OkStatus();
}

// Whether the work itself has ended with an error, not this job alone.
bool WorkFailed(Service::State& service, const JobRecord& job) {
  const auto execution = service.store->GetExecution(job.execution_id);
  return execution.ok() && execution->state == JobState::kFailed;
}

absl::Status ErrorOfEnded(const JobRecord& job) {
  if (!job.error.ok()) {
    return job.error;
  }
  return FieldError(absl::StatusCode::kNotFound, "job_id",
                    absl::StrCat("the result of job \"", job.id,
                                 "\" has been evicted: ask again"),
                    "RESULT_NOT_FOUND");
}

// After the end of a job without a result: who follows the result goes over to
// what else has made or makes it. False: there is nothing.
absl::StatusOr<bool> FollowAnother(ResultStream::State& state,
                                   const JobRecord& ended) {
  if (state.of != Reader::kResult || WorkFailed(state.service, ended)) {
    return false;
  }
  if (auto row = state.service.store->GetResult(state.key); row.ok()) {
    MOESCOPE_RETURN_IF_ERROR(OpenSealedLog(state, *std::move(row)));
    return true;
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<JobRecord> other,
                            state.service.store->FindLiveJob(state.key));
  if (other.has_value()) {
    state.job_id = other->id;
  }
  return other.has_value();
}

// Looks at the job; true when there may be something new to read.
absl::StatusOr<bool> LookAtJob(ResultStream::State& state) {
  MOESCOPE_ASSIGN_OR_RETURN(const JobRecord job,
                            state.service.store->GetJob(state.job_id));
  if (IsFinished(job.state) && state.lease != nullptr) {
    state.lease->JobEnded();
    state.lease.reset();
  }
  if (job.state == JobState::kSucceeded) {
    MOESCOPE_ASSIGN_OR_RETURN(
        ResultRow row, state.service.store->GetResult(
                           job.result_key.empty() ? state.key : job.result_key));
    MOESCOPE_RETURN_IF_ERROR(OpenSealedLog(state, std::move(row)));
    return true;
  }
  if (IsFinished(job.state)) {
    MOESCOPE_ASSIGN_OR_RETURN(const bool followed, FollowAnother(state, job));
    if (followed) {
      return true;
    }
    return ErrorOfEnded(job);
  }
  if (job.execution_id.empty()) {
    return false;
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      const ExecutionRecord execution,
      state.service.store->GetExecution(job.execution_id));
  if (execution.committed.records > state.next_chunk) {
    const absl::Status status = FollowRunning(state, execution.committed);
    if (status.ok()) {
      return true;
    }
    // The log was moved or taken over between two looks: look again.
    state.reader = nullptr;
    state.fence = 0;
    if (!absl::IsNotFound(status)) {
      return status;
    }
  }
  if (state.service.draining.load() && execution.state == JobState::kQueued) {
    return DrainingError();
  }
  return false;
}

absl::Status WaitForMore(ResultStream::State& state,
                         const RunContext& context) {
  for (;;) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    // Asked for before looking, so that no change is missed.
    const std::int64_t version = state.service.notifier.version();
    MOESCOPE_ASSIGN_OR_RETURN(const bool more, LookAtJob(state));
    if (more) {
      return absl::OkStatus();
    }
    // The store is asked again at least every second; the context sooner.
    for (int i = 0; i < 20; ++i) {
      if (state.service.notifier.WaitFor(version, kLook) != version) {
        break;
      }
      MOESCOPE_RETURN_IF_ERROR(context.Check());
    }
  }
}

}  // namespace

LogExtent ExtentOf(const ResultRow& row) {
  return {row.records, row.bytes, row.digest};
}

void ForgetResult(Service::State& state, absl::string_view key) {
  state.metrics.CacheRequest("disk", "corrupt");
  Log(LogLevel::kWarning, "result_forgotten", {{"key", key}});
  absl::Status status = state.store->DeleteResult(key);
  status.Update(state.results->Remove(key));
  if (!status.ok()) {
    Log(LogLevel::kError, "forget_result_failed",
        {{"key", key}, {"error", status.ToString()}});
  }
}

absl::StatusOr<ResultView> ViewOf(const ResultRow& row) {
  ResultView view;
  view.name = row.key;
  view.complete = true;
  view.chunks = row.records;
  view.size_bytes = row.bytes;
  view.digest = row.digest;
  MOESCOPE_ASSIGN_OR_RETURN(view.provenance,
                            codec::DecodeProvenance(row.provenance));
  return view;
}

absl::StatusOr<std::unique_ptr<ResultStream>> OpenFinished(
    Service::State& service, ResultRow row, std::int64_t first_chunk) {
  auto state = std::make_unique<ResultStream::State>(service);
  state->key = row.key;
  state->next_chunk = first_chunk;
  MOESCOPE_RETURN_IF_ERROR(OpenSealedLog(*state, std::move(row)));
  return std::make_unique<ResultStream>(std::move(state));
}

std::unique_ptr<ResultStream> FollowJob(Service::State& service,
                                        const JobRecord& job, Reader reader,
                                        std::int64_t first_chunk) {
  auto state = std::make_unique<ResultStream::State>(service);
  state->key = job.key;
  state->of = reader;
  state->job_id = job.id;
  state->next_chunk = first_chunk;
  if (reader == Reader::kCaller) {
    state->lease = std::make_unique<CallerLease>(service, job.id);
  }
  return std::make_unique<ResultStream>(std::move(state));
}

ResultStream::ResultStream(std::unique_ptr<State> state)
    : state_(std::move(state)) {}

ResultStream::~ResultStream() = default;

const std::string& ResultStream::key() const { return state_->key; }

const std::string& ResultStream::job_id() const { return state_->job_id; }

std::int64_t ResultStream::next_chunk() const { return state_->next_chunk; }

absl::StatusOr<std::optional<spec::Chunk>> ResultStream::Next(
    const RunContext& context) {
  State& state = *state_;
  while (!state.at_end) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    if (state.reader != nullptr) {
      const auto next = state.reader->Next();
      if (!next.ok()) {
        return state.row.has_value()
                   ? Dropped(state.service, *state.row, next.status())
                   : next.status();
      }
      const std::optional<absl::string_view>& record = *next;
      if (record.has_value()) {
        ++state.next_chunk;
        MOESCOPE_ASSIGN_OR_RETURN(spec::Chunk chunk,
                                  codec::DecodeChunk(*record));
        return std::optional<spec::Chunk>(std::move(chunk));
      }
      if (state.row.has_value()) {
        state.at_end = true;
        break;
      }
    }
    MOESCOPE_RETURN_IF_ERROR(WaitForMore(state, context));
  }
  return std::optional<spec::Chunk>();
}

absl::StatusOr<ResultView> ResultStream::Info() const {
  if (state_->row.has_value()) {
    return ViewOf(*state_->row);
  }
  ResultView view;
  view.name = state_->key;
  view.chunks = state_->next_chunk;
  return view;
}

}  // namespace moescope
