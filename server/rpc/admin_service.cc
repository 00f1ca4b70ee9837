#include <memory>

#include "absl/time/clock.h"
#include "moescope/v1/admin.grpc.pb.h"

#include "server/rpc/messages_internal.h"
#include "server/rpc/services_internal.h"

namespace moescope::internal {
namespace {

absl::StatusOr<v1::GetServerInfoResponse> GetServerInfo(
    Call& call, const v1::GetServerInfoRequest&) {
  MOESCOPE_ASSIGN_OR_RETURN(const ServerView view,
                            call.service().GetServerInfo());
  const CallEnvironment& environment = call.environment();
  return ToMessage(view, environment.options, environment.draining.load(),
                   absl::Now());
}

absl::StatusOr<v1::GetCacheStatsResponse> GetCacheStats(
    Call& call, const v1::GetCacheStatsRequest&) {
  return ToMessage(call.service().GetCacheStats());
}

class AdminHandlers final : public v1::AdminService::Service {
 public:
  explicit AdminHandlers(CallEnvironment& environment)
      : environment_(environment) {}

  grpc::Status GetServerInfo(grpc::ServerContext* context,
                             const v1::GetServerInfoRequest* request,
                             v1::GetServerInfoResponse* response) override {
    return HandleUnary(environment_, "AdminService/GetServerInfo", context,
                       request, response, internal::GetServerInfo);
  }
  grpc::Status GetCacheStats(grpc::ServerContext* context,
                             const v1::GetCacheStatsRequest* request,
                             v1::GetCacheStatsResponse* response) override {
    return HandleUnary(environment_, "AdminService/GetCacheStats", context,
                       request, response, internal::GetCacheStats);
  }

 private:
  CallEnvironment& environment_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdminService(CallEnvironment& environment) {
  return std::make_unique<AdminHandlers>(environment);
}

}  // namespace moescope::internal
