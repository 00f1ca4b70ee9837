#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "moescope/v1/job.grpc.pb.h"

#include "moescope/base/error.h"
#include "server/rpc/messages_internal.h"
#include "server/rpc/services_internal.h"
#include "server/rpc/validation_internal.h"

namespace moescope::internal {
namespace {

// How soon a watcher who left, or a server that stops, is noticed.
constexpr absl::Duration kWatchSlice = absl::Milliseconds(250);
// How often the queue is looked at for who watches waiting work.
constexpr absl::Duration kPlaceInterval = absl::Seconds(1);

// With its place in the queue where it waits.
absl::StatusOr<v1::Job> Shown(const Call& call, const JobRecord& record) {
  v1::Job job = ToMessage(record);
  if (record.state == JobState::kQueued) {
    MOESCOPE_ASSIGN_OR_RETURN(const QueuePlaces places,
                              call.service().GetQueuePlaces());
    SetQueuePlace(places, record, job);
  }
  return job;
}

absl::StatusOr<v1::GetJobResponse> GetJob(Call& call,
                                          const v1::GetJobRequest& request) {
  MOESCOPE_RETURN_IF_ERROR(RequireField("id", request.id()));
  MOESCOPE_ASSIGN_OR_RETURN(const JobRecord job,
                            call.service().GetJob(request.id()));
  v1::GetJobResponse response;
  MOESCOPE_ASSIGN_OR_RETURN(*response.mutable_job(), Shown(call, job));
  return response;
}

absl::Status CheckStates(const v1::ListJobsRequest& request) {
  for (int i = 0; i < request.states_size(); ++i) {
    if (!v1::JobState_IsValid(request.states(i))) {
      return InvalidField(absl::StrCat("states[", i, "]"),
                          absl::StrCat(static_cast<int>(request.states(i)),
                                       " is no JobState"));
    }
  }
  return absl::OkStatus();
}

bool Wanted(const v1::ListJobsRequest& request, const v1::Job& job) {
  const auto is_any = [](int state) {
    return state == v1::JOB_STATE_UNSPECIFIED;
  };
  const bool state =
      request.states().empty() ||
      std::any_of(request.states().begin(), request.states().end(), is_any) ||
      std::find(request.states().begin(), request.states().end(),
                job.state()) != request.states().end();
  const bool model =
      request.model().empty() ||
      std::find(job.models().begin(), job.models().end(), request.model()) !=
          job.models().end();
  return state && model;
}

// Adds the jobs of `page` that are wanted, and gives how many of its records
// have been looked at when the reply was full.
std::int64_t AddJobs(const v1::ListJobsRequest& request, const JobPage& page,
                     const QueuePlaces& places, std::int64_t max_bytes,
                     v1::ListJobsResponse& response) {
  std::int64_t bytes = 0;
  std::int64_t looked_at = 0;
  for (const JobRecord& record : page.jobs) {
    v1::Job job = ToMessage(record);
    SetQueuePlace(places, record, job);
    if (Wanted(request, job)) {
      // With tag and length.
      bytes += static_cast<std::int64_t>(job.ByteSizeLong()) + 6;
      if (bytes > max_bytes && looked_at > 0) {
        break;
      }
      *response.add_jobs() = std::move(job);
    }
    ++looked_at;
  }
  return looked_at;
}

absl::StatusOr<v1::ListJobsResponse> ListJobs(
    Call& call, const v1::ListJobsRequest& request) {
  MOESCOPE_RETURN_IF_ERROR(CheckStates(request));
  MOESCOPE_ASSIGN_OR_RETURN(std::int64_t page_size,
                            PageSize(request.page_size()));
  JobFilter filter;
  if (!request.analysis().empty()) {
    filter.analysis = request.analysis();
  }
  MOESCOPE_ASSIGN_OR_RETURN(const QueuePlaces places,
                            call.service().GetQueuePlaces());
  v1::ListJobsResponse response;
  response.set_next_page_token(request.page_token());
  // The store does not know the other filters: its pages are read until one
  // holds something. So a page may be short, but only the last can be empty.
  for (;;) {
    MOESCOPE_RETURN_IF_ERROR(call.Check());
    MOESCOPE_ASSIGN_OR_RETURN(
        JobPage page, call.service().ListJobs(filter, page_size,
                                              response.next_page_token()));
    const std::int64_t looked_at =
        AddJobs(request, page, places,
                call.environment().options.max_page_bytes, response);
    if (looked_at < static_cast<std::int64_t>(page.jobs.size())) {
      // Too much for one reply: a smaller page, whose token goes on behind it.
      response.clear_jobs();
      page_size = looked_at;
      continue;
    }
    response.set_next_page_token(page.next_page_token);
    if (!response.jobs().empty() || page.next_page_token.empty()) {
      return response;
    }
  }
}

absl::Status WatchJob(Call& call, const v1::WatchJobRequest& request,
                      const Send<v1::WatchJobResponse>& send) {
  MOESCOPE_RETURN_IF_ERROR(RequireField("id", request.id()));
  if (request.after_sequence() < 0) {
    return InvalidField("after_sequence", absl::StrCat(request.after_sequence(),
                                                       " is negative"));
  }
  std::int64_t sequence = request.after_sequence();
  std::int32_t position = 0;
  absl::Time last_sent = absl::Now();
  absl::Time last_placed = absl::InfinitePast();
  for (;;) {
    MOESCOPE_RETURN_IF_ERROR(call.Check());
    MOESCOPE_ASSIGN_OR_RETURN(
        const JobRecord record,
        call.service().WatchJob(request.id(), sequence, kWatchSlice,
                                RunContext()));
    v1::WatchJobResponse response;
    const bool changed = record.sequence > sequence;
    if (changed || (record.state == JobState::kQueued &&
                    absl::Now() - last_placed >= kPlaceInterval)) {
      MOESCOPE_ASSIGN_OR_RETURN(v1::Job job, Shown(call, record));
      last_placed = absl::Now();
      if (changed || job.queue_position() != position) {
        sequence = record.sequence;
        position = job.queue_position();
        *response.mutable_job() = std::move(job);
      }
    }
    if (!response.has_job() &&
        absl::Now() - last_sent >= call.environment().options.watch_heartbeat) {
      response.set_heartbeat(true);
    }
    if (response.has_job() || response.heartbeat()) {
      MOESCOPE_RETURN_IF_ERROR(send(response));
      last_sent = absl::Now();
    }
    if (IsFinished(record.state)) {
      return absl::OkStatus();
    }
  }
}

absl::StatusOr<v1::CancelJobResponse> CancelJob(
    Call& call, const v1::CancelJobRequest& request) {
  MOESCOPE_RETURN_IF_ERROR(RequireField("id", request.id()));
  MOESCOPE_ASSIGN_OR_RETURN(const JobRecord job,
                            call.service().CancelJob(request.id()));
  v1::CancelJobResponse response;
  *response.mutable_job() = ToMessage(job);
  return response;
}

class JobHandlers final : public v1::JobService::Service {
 public:
  explicit JobHandlers(CallEnvironment& environment)
      : environment_(environment) {}

  grpc::Status GetJob(grpc::ServerContext* context,
                      const v1::GetJobRequest* request,
                      v1::GetJobResponse* response) override {
    return HandleUnary(environment_, "JobService/GetJob", context, request,
                       response, internal::GetJob);
  }
  grpc::Status ListJobs(grpc::ServerContext* context,
                        const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override {
    return HandleUnary(environment_, "JobService/ListJobs", context, request,
                       response, internal::ListJobs);
  }
  grpc::Status WatchJob(
      grpc::ServerContext* context, const v1::WatchJobRequest* request,
      grpc::ServerWriter<v1::WatchJobResponse>* writer) override {
    return HandleStream(environment_, "JobService/WatchJob", context, request,
                        writer, internal::WatchJob);
  }
  grpc::Status CancelJob(grpc::ServerContext* context,
                         const v1::CancelJobRequest* request,
                         v1::CancelJobResponse* response) override {
    return HandleUnary(environment_, "JobService/CancelJob", context, request,
                       response, internal::CancelJob);
  }

 private:
  CallEnvironment& environment_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeJobService(CallEnvironment& environment) {
  return std::make_unique<JobHandlers>(environment);
}

}  // namespace moescope::internal
