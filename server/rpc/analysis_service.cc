#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "moescope/v1/analysis.grpc.pb.h"

#include "moescope/base/error.h"
#include "moescope/base/field_path.h"
#include "server/rpc/analysis_requests_internal.h"
#include "server/rpc/answer_internal.h"
#include "server/rpc/services_internal.h"
#include "server/rpc/validation_internal.h"

namespace moescope::internal {
namespace {

absl::Status TraceRouting(Call& call, const v1::TraceRoutingRequest& request,
                          const Send<v1::TraceRoutingResponse>& send) {
  MOESCOPE_ASSIGN_OR_RETURN(AnalysisRequest asked,
                            DirectRequest(call, request));
  MOESCOPE_RETURN_IF_ERROR(TakeInput(request, asked));
  MOESCOPE_ASSIGN_OR_RETURN(const std::unique_ptr<ResultStream> stream,
                            call.service().Run(asked));
  AnnounceAnswer({stream.get()}, call);
  return SendAnswer(*stream, call, send);
}

// A direct call after every check, and started, with the Spec that its answer
// is folded by.
struct PreparedAnswer {
  AnalysisRequest request;
  PreparedAnalysis prepared;
  std::unique_ptr<ResultStream> stream;
};

absl::StatusOr<PreparedAnswer> Prepare(const Call& call,
                                       AnalysisRequest asked) {
  PreparedAnswer answer;
  answer.request = std::move(asked);
  MOESCOPE_ASSIGN_OR_RETURN(answer.prepared,
                            call.service().Prepare(answer.request));
  return answer;
}

absl::Status Start(const Call& call, PreparedAnswer& answer) {
  MOESCOPE_ASSIGN_OR_RETURN(
      answer.stream, call.service().Run(answer.request, answer.prepared));
  return absl::OkStatus();
}

absl::StatusOr<v1::ComputeExpertSimilarityResponse> ComputeExpertSimilarity(
    Call& call, const v1::ComputeExpertSimilarityRequest& request) {
  MOESCOPE_ASSIGN_OR_RETURN(AnalysisRequest asked,
                            DirectRequest(call, request));
  MOESCOPE_ASSIGN_OR_RETURN(PreparedAnswer started,
                            Prepare(call, std::move(asked)));
  MOESCOPE_RETURN_IF_ERROR(Start(call, started));
  AnnounceAnswer({started.stream.get()}, call);
  MOESCOPE_ASSIGN_OR_RETURN(FoldableAnswer answer,
                            ReadFoldable(*started.stream, call));
  v1::ComputeExpertSimilarityResponse response;
  if (!answer.too_large) {
    MOESCOPE_ASSIGN_OR_RETURN(
        response, codec::FoldExpertSimilarity(
                      std::get<spec::ExpertSimilaritySpec>(started.prepared.spec),
                      std::move(answer.chunks)));
  }
  *response.mutable_result() = ToMessage(answer.result);
  if (answer.too_large || TooLargeForReply(response)) {
    response.clear_layers();
    response.set_too_large(true);
  }
  return response;
}

// Its Spec is what the client wrote as `activation`, but for what it takes from
// `spec`.
absl::Status ActivationError(absl::Status status) {
  status = RenameField(status, "spec", "activation");
  status = RenameField(status, "activation.model", "spec.model");
  return RenameField(status, "activation.layers", "spec.layers");
}

// The request for the second half of ComputeNeuronStatistics.
absl::StatusOr<AnalysisRequest> ActivationRequest(
    const Call& call, const v1::ComputeNeuronStatisticsRequest& request) {
  if (!request.activation().model().empty()) {
    return InvalidField("activation.model", "must be empty: it is spec.model");
  }
  if (!request.activation().layers().empty()) {
    return InvalidField("activation.layers",
                        "must be empty: they are spec.layers");
  }
  v1::ActivationStatisticsSpec activation = request.activation();
  activation.set_model(request.spec().model());
  *activation.mutable_layers() = request.spec().layers();
  MOESCOPE_ASSIGN_OR_RETURN(AnalysisRequest asked, NewRequest(call, request));
  asked.priority = Priority::kInteractive;
  asked.deadline = call.deadline();
  MOESCOPE_ASSIGN_OR_RETURN(asked.spec, codec::SpecFromMessage(activation));
  MOESCOPE_RETURN_IF_ERROR(TakeInput(request, asked));
  return asked;
}

// Fills everything but the results' headers.
absl::StatusOr<v1::ComputeNeuronStatisticsResponse> FoldNeurons(
    const spec::AnalysisSpec& spec, FoldableAnswer& weights,
    FoldableAnswer& activations) {
  v1::ComputeNeuronStatisticsResponse response;
  bool too_large = weights.too_large || activations.too_large;
  if (!too_large) {
    MOESCOPE_ASSIGN_OR_RETURN(
        response, codec::FoldNeuronStatistics(
                      std::get<spec::NeuronWeightStatisticsSpec>(spec),
                      std::move(weights.chunks),
                      std::move(activations.chunks)));
    too_large = TooLargeForReply(response);
  }
  if (too_large) {
    response.clear_layers();
    response.set_too_large(true);
  }
  return response;
}

absl::StatusOr<v1::ComputeNeuronStatisticsResponse> ComputeNeuronStatistics(
    Call& call, const v1::ComputeNeuronStatisticsRequest& request) {
  MOESCOPE_ASSIGN_OR_RETURN(AnalysisRequest asked,
                            DirectRequest(call, request));
  const bool with_activations =
      request.has_input() || request.activation().has_input();
  if (request.has_activation() && !with_activations) {
    return InvalidField("input",
                        "is absent: activation statistics need a text");
  }
  std::vector<const ResultStream*> parts;
  // Both are checked before either is started, and then run side by side.
  MOESCOPE_ASSIGN_OR_RETURN(PreparedAnswer weights,
                            Prepare(call, std::move(asked)));
  PreparedAnswer activations;
  if (with_activations) {
    MOESCOPE_ASSIGN_OR_RETURN(AnalysisRequest second,
                              ActivationRequest(call, request));
    auto prepared = Prepare(call, std::move(second));
    MOESCOPE_RETURN_IF_ERROR(ActivationError(prepared.status()));
    activations = *std::move(prepared);
    MOESCOPE_RETURN_IF_ERROR(Start(call, activations));
    parts.push_back(activations.stream.get());
  }
  MOESCOPE_RETURN_IF_ERROR(Start(call, weights));
  parts.push_back(weights.stream.get());
  AnnounceAnswer(parts, call);
  FoldableAnswer activation_answer;
  if (with_activations) {
    MOESCOPE_ASSIGN_OR_RETURN(activation_answer,
                              ReadFoldable(*activations.stream, call));
  }
  MOESCOPE_ASSIGN_OR_RETURN(FoldableAnswer weight_answer,
                            ReadFoldable(*weights.stream, call));
  MOESCOPE_ASSIGN_OR_RETURN(
      v1::ComputeNeuronStatisticsResponse response,
      FoldNeurons(weights.prepared.spec, weight_answer, activation_answer));
  *response.mutable_result() = ToMessage(weight_answer.result);
  if (with_activations) {
    *response.mutable_activation_result() = ToMessage(activation_answer.result);
  }
  return response;
}

absl::StatusOr<v1::SubmitAnalysisResponse> Submit(
    Call& call, const v1::SubmitAnalysisRequest& request) {
  MOESCOPE_ASSIGN_OR_RETURN(AnalysisRequest asked, NewRequest(call, request));
  MOESCOPE_ASSIGN_OR_RETURN(asked.spec, codec::SpecFromMessage(request.spec()));
  MOESCOPE_RETURN_IF_ERROR(TakeInput(request, asked));
  MOESCOPE_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  asked.request_id = request.request_id();
  MOESCOPE_ASSIGN_OR_RETURN(asked.priority,
                            FromMessage(request.priority(), Priority::kBatch));
  if (request.has_deadline()) {
    asked.deadline = codec::FromTimestamp(request.deadline());
    if (*asked.deadline <= absl::Now()) {
      return InvalidField("deadline", absl::StrCat(
          absl::FormatTime(*asked.deadline, absl::UTCTimeZone()),
          " is in the past"));
    }
  }
  v1::SubmitAnalysisResponse response;
  PreparedAnalysis prepared;
  CostView cost;
  if (request.validate_only()) {
    MOESCOPE_ASSIGN_OR_RETURN(prepared, call.service().Prepare(asked));
    cost = call.service().EstimateCost(prepared);
  } else {
    MOESCOPE_ASSIGN_OR_RETURN(SubmittedAnalysis submitted,
                              call.service().Submit(std::move(asked)));
    *response.mutable_job() = ToMessage(submitted.job);
    prepared = std::move(submitted.prepared);
    cost = submitted.cost;
  }
  *response.mutable_estimated_cost() = ToMessage(cost);
  response.set_cached(prepared.cached);
  response.set_spec_json(prepared.spec_json);
  return response;
}

// `status` about a field of the Spec, with the path that the client wrote: the
// Spec of each analysis lies in a field of its name.
absl::Status InsideChosenSpec(const v1::AnalysisSpec& spec,
                              const absl::Status& status) {
  const auto* const chosen = spec.GetReflection()->GetOneofFieldDescriptor(
      spec, v1::AnalysisSpec::descriptor()->oneof_decl(0));
  return chosen == nullptr
             ? status
             : RenameField(status, "spec",
                           absl::StrCat("spec.", chosen->name()));
}

absl::StatusOr<v1::SubmitAnalysisResponse> SubmitAnalysis(
    Call& call, const v1::SubmitAnalysisRequest& request) {
  auto response = Submit(call, request);
  return response.ok() ? std::move(response)
                       : InsideChosenSpec(request.spec(), response.status());
}

// The service, with the two methods that send metadata before their reply.
using EarlyUnaryService =
    v1::AnalysisService::WithStreamedUnaryMethod_ComputeExpertSimilarity<
        v1::AnalysisService::WithStreamedUnaryMethod_ComputeNeuronStatistics<
            v1::AnalysisService::Service>>;

class AnalysisHandlers final : public EarlyUnaryService {
 public:
  explicit AnalysisHandlers(CallEnvironment& environment)
      : environment_(environment) {}

  grpc::Status TraceRouting(
      grpc::ServerContext* context, const v1::TraceRoutingRequest* request,
      grpc::ServerWriter<v1::TraceRoutingResponse>* writer) override {
    return HandleStream(environment_, "AnalysisService/TraceRouting", context,
                        request, writer, internal::TraceRouting);
  }
  grpc::Status StreamedComputeExpertSimilarity(
      grpc::ServerContext* context,
      grpc::ServerUnaryStreamer<v1::ComputeExpertSimilarityRequest,
                                v1::ComputeExpertSimilarityResponse>* streamer)
      override {
    return HandleEarlyUnary(environment_,
                            "AnalysisService/ComputeExpertSimilarity", context,
                            streamer, internal::ComputeExpertSimilarity);
  }
  grpc::Status StreamedComputeNeuronStatistics(
      grpc::ServerContext* context,
      grpc::ServerUnaryStreamer<v1::ComputeNeuronStatisticsRequest,
                                v1::ComputeNeuronStatisticsResponse>* streamer)
      override {
    return HandleEarlyUnary(environment_,
                            "AnalysisService/ComputeNeuronStatistics", context,
                            streamer, internal::ComputeNeuronStatistics);
  }
  grpc::Status SubmitAnalysis(grpc::ServerContext* context,
                              const v1::SubmitAnalysisRequest* request,
                              v1::SubmitAnalysisResponse* response) override {
    return HandleUnary(environment_, "AnalysisService/SubmitAnalysis", context,
                       request, response, internal::SubmitAnalysis);
  }
  grpc::Status ListAnalyses(grpc::ServerContext* context,
                            const v1::ListAnalysesRequest* request,
                            v1::ListAnalysesResponse* response) override {
    return HandleUnary(environment_, "AnalysisService/ListAnalyses", context,
                       request, response, internal::ListAnalyses);
  }

 private:
  CallEnvironment& environment_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAnalysisService(
    CallEnvironment& environment) {
  return std::make_unique<AnalysisHandlers>(environment);
}

}  // namespace moescope::internal
