#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "moescope/v1/model.grpc.pb.h"

#include "moescope/base/error.h"
#include "server/rpc/messages_internal.h"
#include "server/rpc/services_internal.h"
#include "server/rpc/validation_internal.h"

namespace moescope::internal {
namespace {

absl::StatusOr<v1::ListModelsResponse> ListModels(
    Call& call, const v1::ListModelsRequest& request) {
  MOESCOPE_ASSIGN_OR_RETURN(std::vector<std::string> names,
                            call.service().ListModelNames());
  MOESCOPE_ASSIGN_OR_RETURN(
      const NamePage page,
      PageOfNames(names, request.page_size(), request.page_token()));
  names.resize(page.end);
  names.erase(names.begin(),
              names.begin() + static_cast<std::ptrdiff_t>(page.begin));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<ModelView> models,
                            call.service().DescribeModels(names));
  v1::ListModelsResponse response;
  for (const ModelView& model : models) {
    *response.add_models() = ToMessage(model);
  }
  response.set_next_page_token(page.next_page_token);
  return response;
}

absl::StatusOr<v1::GetModelResponse> GetModel(
    Call& call, const v1::GetModelRequest& request) {
  MOESCOPE_RETURN_IF_ERROR(RequireField("model", request.model()));
  MOESCOPE_ASSIGN_OR_RETURN(const ModelView view,
                            call.service().GetModel(request.model()));
  v1::GetModelResponse response;
  *response.mutable_model() = ToMessage(view);
  return response;
}

template <class Request>
absl::StatusOr<ModelJobRequest> ModelJob(const Call& call,
                                         const Request& request,
                                         Priority unspecified) {
  MOESCOPE_RETURN_IF_ERROR(RequireField("model", request.model()));
  MOESCOPE_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  ModelJobRequest asked;
  MOESCOPE_ASSIGN_OR_RETURN(asked.priority,
                            FromMessage(request.priority(), unspecified));
  asked.model = request.model();
  asked.client = call.client();
  asked.request_id = request.request_id();
  asked.traceparent = call.traceparent();
  return asked;
}

absl::StatusOr<v1::LoadModelResponse> LoadModel(
    Call& call, const v1::LoadModelRequest& request) {
  MOESCOPE_ASSIGN_OR_RETURN(
      ModelJobRequest asked,
      ModelJob(call, request, Priority::kInteractive));
  MOESCOPE_ASSIGN_OR_RETURN(const JobRecord job,
                            call.service().LoadModel(std::move(asked)));
  v1::LoadModelResponse response;
  *response.mutable_job() = ToMessage(job);
  return response;
}

absl::StatusOr<v1::VerifyModelResponse> VerifyModel(
    Call& call, const v1::VerifyModelRequest& request) {
  MOESCOPE_ASSIGN_OR_RETURN(ModelJobRequest asked,
                            ModelJob(call, request, Priority::kBatch));
  MOESCOPE_ASSIGN_OR_RETURN(const JobRecord job,
                            call.service().VerifyModel(std::move(asked)));
  v1::VerifyModelResponse response;
  *response.mutable_job() = ToMessage(job);
  return response;
}

absl::StatusOr<v1::UnloadModelResponse> UnloadModel(
    Call& call, const v1::UnloadModelRequest& request) {
  MOESCOPE_RETURN_IF_ERROR(RequireField("model", request.model()));
  MOESCOPE_ASSIGN_OR_RETURN(const ModelView before,
                            call.service().GetModel(request.model()));
  MOESCOPE_RETURN_IF_ERROR(call.service().UnloadModel(request.model()));
  MOESCOPE_ASSIGN_OR_RETURN(const ModelView after,
                            call.service().GetModel(request.model()));
  v1::UnloadModelResponse response;
  *response.mutable_model() = ToMessage(after);
  response.set_freed_bytes(before.resident_bytes - after.resident_bytes);
  return response;
}

absl::StatusOr<v1::EstimateModelResponse> EstimateModel(
    Call& call, const v1::EstimateModelRequest& request) {
  MOESCOPE_RETURN_IF_ERROR(RequireField("model", request.model()));
  MOESCOPE_ASSIGN_OR_RETURN(const EstimateView estimate,
                            call.service().EstimateModel(request.model()));
  MOESCOPE_ASSIGN_OR_RETURN(const ModelView view,
                            call.service().GetModel(request.model()));
  v1::EstimateModelResponse response;
  response.set_device(view.device);
  response.set_weight_bytes(estimate.weight_bytes);
  response.set_workspace_bytes(estimate.workspace_bytes);
  response.set_budget_bytes(estimate.budget_bytes);
  response.set_available_bytes(estimate.available_bytes);
  response.set_fits(estimate.fits);
  for (const std::string& name : estimate.would_evict) {
    response.add_evictions(name);
  }
  response.set_loaded(ToMessage(view).state() == v1::MODEL_STATE_LOADED);
  return response;
}

absl::StatusOr<TokenizeView> Convert(Call& call,
                                     const v1::TokenizeRequest& request) {
  switch (request.content_case()) {
    case v1::TokenizeRequest::kText:
      if (request.text().empty()) {
        return InvalidField("text", "is empty");
      }
      return call.service().Tokenize(request.model(), request.text(),
                                     !request.without_special_tokens());
    case v1::TokenizeRequest::kTokens:
      if (request.tokens().ids().empty()) {
        return InvalidField("tokens.ids", "is empty");
      }
      return call.service().Detokenize(
          request.model(), std::vector<std::int32_t>(
                               request.tokens().ids().begin(),
                               request.tokens().ids().end()));
    case v1::TokenizeRequest::CONTENT_NOT_SET:
      break;
  }
  return InvalidField("content", "is absent: give text or tokens");
}

absl::StatusOr<v1::TokenizeResponse> Tokenize(
    Call& call, const v1::TokenizeRequest& request) {
  MOESCOPE_RETURN_IF_ERROR(RequireField("model", request.model()));
  MOESCOPE_ASSIGN_OR_RETURN(const TokenizeView view, Convert(call, request));
  v1::TokenizeResponse response;
  for (const TokenView& shown : view) {
    v1::Token& token = *response.add_tokens();
    token.set_id(shown.id);
    token.set_text(shown.piece);
    token.set_special(shown.special);
  }
  return response;
}

class ModelHandlers final : public v1::ModelService::Service {
 public:
  explicit ModelHandlers(CallEnvironment& environment)
      : environment_(environment) {}

  grpc::Status ListModels(grpc::ServerContext* context,
                          const v1::ListModelsRequest* request,
                          v1::ListModelsResponse* response) override {
    return HandleUnary(environment_, "ModelService/ListModels", context,
                       request, response, internal::ListModels);
  }
  grpc::Status GetModel(grpc::ServerContext* context,
                        const v1::GetModelRequest* request,
                        v1::GetModelResponse* response) override {
    return HandleUnary(environment_, "ModelService/GetModel", context, request,
                       response, internal::GetModel);
  }
  grpc::Status LoadModel(grpc::ServerContext* context,
                         const v1::LoadModelRequest* request,
                         v1::LoadModelResponse* response) override {
    return HandleUnary(environment_, "ModelService/LoadModel", context, request,
                       response, internal::LoadModel);
  }
  grpc::Status VerifyModel(grpc::ServerContext* context,
                           const v1::VerifyModelRequest* request,
                           v1::VerifyModelResponse* response) override {
    return HandleUnary(environment_, "ModelService/VerifyModel", context,
                       request, response, internal::VerifyModel);
  }
  grpc::Status UnloadModel(grpc::ServerContext* context,
                           const v1::UnloadModelRequest* request,
                           v1::UnloadModelResponse* response) override {
    return HandleUnary(environment_, "ModelService/UnloadModel", context,
                       request, response, internal::UnloadModel);
  }
  grpc::Status EstimateModel(grpc::ServerContext* context,
                             const v1::EstimateModelRequest* request,
                             v1::EstimateModelResponse* response) override {
    return HandleUnary(environment_, "ModelService/EstimateModel", context,
                       request, response, internal::EstimateModel);
  }
  grpc::Status Tokenize(grpc::ServerContext* context,
                        const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override {
    return HandleUnary(environment_, "ModelService/Tokenize", context, request,
                       response, internal::Tokenize);
  }

 private:
  CallEnvironment& environment_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeModelService(CallEnvironment& environment) {
  return std::make_unique<ModelHandlers>(environment);
}

}  // namespace moescope::internal
