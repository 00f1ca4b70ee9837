#include "client/lib/client.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/lib/connection.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/codec/messages.h"

namespace moescope::client {
namespace {

// Lost connections in a row, with nothing received between, before giving up.
constexpr int kMaxLosses = 5;
constexpr int kPageSize = 1000;

// The chunks of one stream, and its header when the stream has ended well.
struct ResultStream {
  codec::ChunkAssembler assembler;
  v1::Result result;
  bool complete = false;

  // `message` is a response with a slice or a result.
  template <class Response>
  absl::Status Take(Response message, const Client::ChunkSink& sink) {
    if (message.has_result()) {
      result = std::move(*message.mutable_result());
      complete = true;
      return absl::OkStatus();
    }
    if (!message.has_slice()) {
      return absl::OkStatus();
    }
    MOESCOPE_ASSIGN_OR_RETURN(
        auto chunk, assembler.Add(std::move(*message.mutable_slice())));
    return chunk.has_value() ? sink(*std::move(chunk)) : absl::OkStatus();
  }
};

CallJobs NoJobs() {
  CallJobs jobs;
  jobs.known = true;
  return jobs;
}

bool MayGoOn(const absl::Status& status, int losses) {
  return absl::IsUnavailable(status) && losses < kMaxLosses;
}

}  // namespace

// One unary call: its service, its name, its request, its jobs.
#define MOESCOPE_UNARY_WITH(service, Method, request, jobs)                   \
  connection_->Unary<v1::Method##Response>(                                   \
      [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {       \
        return connection_->service()->PrepareAsync##Method(context, request, \
                                                            queue);           \
      },                                                                      \
      jobs)
// One that does no work which would outlive it.
#define MOESCOPE_UNARY(service, Method, request) \
  MOESCOPE_UNARY_WITH(service, Method, request, NoJobs())

Client::Client(ClientOptions options)
    : connection_(std::make_unique<Connection>(std::move(options))) {}
Client::~Client() = default;

absl::StatusOr<v1::ListModelsResponse> Client::ListModels() {
  v1::ListModelsRequest request;
  request.set_page_size(kPageSize);
  v1::ListModelsResponse all;
  do {
    MOESCOPE_ASSIGN_OR_RETURN(auto page,
                              MOESCOPE_UNARY(models, ListModels, request));
    request.set_page_token(page.next_page_token());
    page.clear_next_page_token();
    all.MergeFrom(page);
  } while (!request.page_token().empty());
  return all;
}

absl::StatusOr<v1::GetModelResponse> Client::GetModel(
    const std::string& model) {
  v1::GetModelRequest request;
  request.set_model(model);
  return MOESCOPE_UNARY(models, GetModel, request);
}

absl::StatusOr<v1::LoadModelResponse> Client::LoadModel(
    const std::string& model) {
  v1::LoadModelRequest request;
  request.set_model(model);
  return MOESCOPE_UNARY(models, LoadModel, request);
}

absl::StatusOr<v1::VerifyModelResponse> Client::VerifyModel(
    const std::string& model) {
  v1::VerifyModelRequest request;
  request.set_model(model);
  return MOESCOPE_UNARY(models, VerifyModel, request);
}

absl::StatusOr<v1::UnloadModelResponse> Client::UnloadModel(
    const std::string& model) {
  v1::UnloadModelRequest request;
  request.set_model(model);
  return MOESCOPE_UNARY(models, UnloadModel, request);
}

absl::StatusOr<v1::EstimateModelResponse> Client::EstimateModel(
    const std::string& model) {
  v1::EstimateModelRequest request;
  request.set_model(model);
  return MOESCOPE_UNARY(models, EstimateModel, request);
}

absl::StatusOr<v1::TokenizeResponse> Client::Tokenize(
    const v1::TokenizeRequest& request) {
  return MOESCOPE_UNARY(models, Tokenize, request);
}

absl::StatusOr<v1::Result> Client::TraceRouting(
    const v1::TraceRoutingRequest& request, const ChunkSink& sink) {
  ResultStream stream;
  CallJobs jobs;
  absl::Status status = connection_->Stream<v1::TraceRoutingResponse>(
      [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
        return connection_->analyses()->PrepareAsyncTraceRouting(
            context, request, queue);
      },
      jobs,
      [&](v1::TraceRoutingResponse message) {
        return stream.Take(std::move(message), sink);
      });
  v1::ReadResultRequest rest;
  for (int losses = 0; !jobs.ids.empty() && MayGoOn(status, losses); ++losses) {
    rest.set_job_id(jobs.ids.front());
    MOESCOPE_RETURN_IF_ERROR(connection_->PauseBeforeRetry());
    stream.assembler.Restart();
    rest.set_first_chunk(stream.assembler.next_chunk());
    status = connection_->Stream<v1::ReadResultResponse>(
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          return connection_->results()->PrepareAsyncReadResult(context, rest,
                                                                queue);
        },
        jobs,
        [&](v1::ReadResultResponse message) {
          losses = -1;
          return stream.Take(std::move(message), sink);
        });
  }
  MOESCOPE_RETURN_IF_ERROR(status);
  if (!stream.complete) {
    return absl::DataLossError("the trace ended before its last message");
  }
  return std::move(stream.result);
}

absl::StatusOr<v1::ComputeExpertSimilarityResponse>
Client::ComputeExpertSimilarity(
    const v1::ComputeExpertSimilarityRequest& request) {
  return MOESCOPE_UNARY_WITH(analyses, ComputeExpertSimilarity, request,
                             CallJobs());
}

absl::StatusOr<v1::ComputeNeuronStatisticsResponse>
Client::ComputeNeuronStatistics(
    const v1::ComputeNeuronStatisticsRequest& request) {
  return MOESCOPE_UNARY_WITH(analyses, ComputeNeuronStatistics, request,
                             CallJobs());
}

absl::StatusOr<v1::SubmitAnalysisResponse> Client::SubmitAnalysis(
    const v1::SubmitAnalysisRequest& request) {
  return MOESCOPE_UNARY(analyses, SubmitAnalysis, request);
}

absl::StatusOr<v1::ListAnalysesResponse> Client::ListAnalyses() {
  v1::ListAnalysesRequest request;
  request.set_page_size(kPageSize);
  v1::ListAnalysesResponse all;
  do {
    MOESCOPE_ASSIGN_OR_RETURN(auto page,
                              MOESCOPE_UNARY(analyses, ListAnalyses, request));
    request.set_page_token(page.next_page_token());
    page.clear_next_page_token();
    all.MergeFrom(page);
  } while (!request.page_token().empty());
  return all;
}

absl::StatusOr<v1::Job> Client::GetJob(const std::string& id) {
  v1::GetJobRequest request;
  request.set_id(id);
  MOESCOPE_ASSIGN_OR_RETURN(auto response,
                            MOESCOPE_UNARY(jobs, GetJob, request));
  return std::move(*response.mutable_job());
}

absl::StatusOr<v1::ListJobsResponse> Client::ListJobs(
    v1::ListJobsRequest request) {
  request.set_page_size(kPageSize);
  v1::ListJobsResponse all;
  do {
    MOESCOPE_ASSIGN_OR_RETURN(auto page,
                              MOESCOPE_UNARY(jobs, ListJobs, request));
    request.set_page_token(page.next_page_token());
    page.clear_next_page_token();
    all.MergeFrom(page);
  } while (!request.page_token().empty());
  return all;
}

absl::StatusOr<v1::Job> Client::CancelJob(const std::string& id) {
  v1::CancelJobRequest request;
  request.set_id(id);
  MOESCOPE_ASSIGN_OR_RETURN(auto response,
                            MOESCOPE_UNARY(jobs, CancelJob, request));
  return std::move(*response.mutable_job());
}

absl::StatusOr<v1::Job> Client::WatchJob(
    const std::string& id, bool cancel_on_interrupt,
    const std::function<void(const v1::Job&)>& on_change) {
  v1::WatchJobRequest request;
  request.set_id(id);
  CallJobs jobs{{id}, true, cancel_on_interrupt, false};
  v1::Job last;
  for (int losses = 0;; ++losses) {
    request.set_after_sequence(last.sequence());
    const absl::Status status = connection_->Stream<v1::WatchJobResponse>(
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          return connection_->jobs()->PrepareAsyncWatchJob(context, request,
                                                           queue);
        },
        jobs,
        [&](v1::WatchJobResponse message) {
          losses = -1;
          if (message.has_job()) {
            last = std::move(*message.mutable_job());
            on_change(last);
          }
          return absl::OkStatus();
        });
    if (HasEnded(last.state())) {
      return last;
    }
    if (status.ok()) {
      return absl::DataLossError(
          absl::StrCat("the stream of job ", id, " ended before the job did"));
    }
    if (!MayGoOn(status, losses)) {
      return status;
    }
    MOESCOPE_RETURN_IF_ERROR(connection_->PauseBeforeRetry());
  }
}

absl::StatusOr<v1::GetResultResponse> Client::GetResult(
    const std::string& name) {
  v1::GetResultRequest request;
  request.set_name(name);
  return MOESCOPE_UNARY(results, GetResult, request);
}

absl::StatusOr<v1::Result> Client::ReadResult(
    const v1::ReadResultRequest& source, const ChunkSink& sink) {
  v1::ReadResultRequest request = source;
  ResultStream stream;
  // Whoever only reads does not cancel by leaving.
  CallJobs jobs;
  jobs.cancel_on_interrupt = false;
  absl::Status status;
  for (int losses = 0;; ++losses) {
    request.set_first_chunk(stream.assembler.next_chunk());
    status = connection_->Stream<v1::ReadResultResponse>(
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          return connection_->results()->PrepareAsyncReadResult(context,
                                                                request, queue);
        },
        jobs,
        [&](v1::ReadResultResponse message) {
          losses = -1;
          return stream.Take(std::move(message), sink);
        });
    if (!MayGoOn(status, losses)) {
      break;
    }
    MOESCOPE_RETURN_IF_ERROR(connection_->PauseBeforeRetry());
    stream.assembler.Restart();
  }
  MOESCOPE_RETURN_IF_ERROR(status);
  if (!stream.complete) {
    return absl::DataLossError("the result ended before its last message");
  }
  return std::move(stream.result);
}

absl::StatusOr<v1::GetServerInfoResponse> Client::GetServerInfo() {
  const v1::GetServerInfoRequest request;
  return MOESCOPE_UNARY(admin, GetServerInfo, request);
}

absl::StatusOr<v1::GetCacheStatsResponse> Client::GetCacheStats() {
  const v1::GetCacheStatsRequest request;
  return MOESCOPE_UNARY(admin, GetCacheStats, request);
}

#undef MOESCOPE_UNARY
#undef MOESCOPE_UNARY_WITH

bool HasEnded(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED || state == v1::JOB_STATE_EXPIRED;
}

absl::Status JobStatus(const v1::Job& job) {
  if (job.state() == v1::JOB_STATE_SUCCEEDED) {
    return absl::OkStatus();
  }
  if (job.state() == v1::JOB_STATE_EXPIRED) {
    ErrorDetails gone;
    gone.reason = "RESULT_NOT_FOUND";
    return MakeError(
        absl::StatusCode::kNotFound,
        absl::StrCat("the result of job ", job.id(), " has been evicted"),
        gone);
  }
  ErrorDetails details;
  details.reason = job.error().reason();
  for (const v1::FieldViolation& field : job.error().field_violations()) {
    details.fields.push_back({field.field(), field.description()});
  }
  details.metadata.insert(job.error().metadata().begin(),
                          job.error().metadata().end());
  const auto code = static_cast<absl::StatusCode>(job.error().code());
  return MakeError(
      code == absl::StatusCode::kOk ? absl::StatusCode::kCancelled : code,
      absl::StrCat("job ", job.id(), ": ", job.error().message()), details);
}

}  // namespace moescope::client
