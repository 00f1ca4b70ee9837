#include <memory>

#include "moescope/v1/result.grpc.pb.h"

#include "moescope/base/error.h"
#include "server/rpc/answer_internal.h"
#include "server/rpc/services_internal.h"
#include "server/rpc/validation_internal.h"

namespace moescope::internal {
namespace {

absl::StatusOr<v1::GetResultResponse> GetResult(
    Call& call, const v1::GetResultRequest& request) {
  MOESCOPE_RETURN_IF_ERROR(RequireField("name", request.name()));
  MOESCOPE_ASSIGN_OR_RETURN(const ResultView view,
                            call.service().GetResult(request.name()));
  v1::GetResultResponse response;
  *response.mutable_result() = ToMessage(view);
  return response;
}

absl::StatusOr<std::unique_ptr<ResultStream>> Open(
    const Call& call, const v1::ReadResultRequest& request) {
  switch (request.source_case()) {
    case v1::ReadResultRequest::kName:
      MOESCOPE_RETURN_IF_ERROR(RequireField("name", request.name()));
      return call.service().ReadResult(request.name(), request.first_chunk());
    case v1::ReadResultRequest::kJobId:
      MOESCOPE_RETURN_IF_ERROR(RequireField("job_id", request.job_id()));
      return call.service().ReadJobResult(request.job_id(),
                                          request.first_chunk());
    case v1::ReadResultRequest::SOURCE_NOT_SET:
      break;
  }
  return InvalidField("source", "is absent: give name or job_id");
}

absl::Status ReadResult(Call& call, const v1::ReadResultRequest& request,
                        const Send<v1::ReadResultResponse>& send) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::unique_ptr<ResultStream> stream,
                            Open(call, request));
  AnnounceAnswer({stream.get()}, call);
  return SendAnswer(*stream, call, send);
}

class ResultHandlers final : public v1::ResultService::Service {
 public:
  explicit ResultHandlers(CallEnvironment& environment)
      : environment_(environment) {}

  grpc::Status GetResult(grpc::ServerContext* context,
                         const v1::GetResultRequest* request,
                         v1::GetResultResponse* response) override {
    return HandleUnary(environment_, "ResultService/GetResult", context,
                       request, response, internal::GetResult);
  }
  grpc::Status ReadResult(
      grpc::ServerContext* context, const v1::ReadResultRequest* request,
      grpc::ServerWriter<v1::ReadResultResponse>* writer) override {
    return HandleStream(environment_, "ResultService/ReadResult", context,
                        request, writer, internal::ReadResult);
  }

 private:
  CallEnvironment& environment_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeResultService(
    CallEnvironment& environment) {
  return std::make_unique<ResultHandlers>(environment);
}

}  // namespace moescope::internal
