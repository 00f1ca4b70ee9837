#pragma once

#include <memory>

#include <grpcpp/impl/codegen/service_type.h>

#include "server/rpc/call_internal.h"

namespace moescope::internal {

// The handlers of each gRPC service. `environment` outlives them.
std::unique_ptr<grpc::Service> MakeAdminService(CallEnvironment& environment);
std::unique_ptr<grpc::Service> MakeAnalysisService(
    CallEnvironment& environment);
std::unique_ptr<grpc::Service> MakeJobService(CallEnvironment& environment);
std::unique_ptr<grpc::Service> MakeModelService(CallEnvironment& environment);
std::unique_ptr<grpc::Service> MakeResultService(CallEnvironment& environment);

}  // namespace moescope::internal
