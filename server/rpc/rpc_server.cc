#include "moescope/rpc/rpc_server.h"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "absl/strings/str_cat.h"
#include "moescope/v1/admin.pb.h"
#include "moescope/v1/analysis.pb.h"
#include "moescope/v1/job.pb.h"
#include "moescope/v1/model.pb.h"
#include "moescope/v1/result.pb.h"

#include "moescope/base/draining.h"
#include "moescope/base/error.h"
#include "moescope/base/quote_name.h"
#include "server/rpc/services_internal.h"
#include "server/rpc/wire_limits_internal.h"

namespace moescope {
namespace {

constexpr const char* kServiceNames[] = {
    "moescope.v1.AdminService", "moescope.v1.AnalysisService",
    "moescope.v1.JobService", "moescope.v1.ModelService",
    "moescope.v1.ResultService"};

// A client that is only slow to read answers a ping all the same.
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveAnswerMs = 20'000;

// "host:0" with the port that was picked.
std::string WithPort(const std::string& listen, int port) {
  return absl::StrCat(listen.substr(0, listen.find_last_of(':') + 1), port);
}

}  // namespace

struct RpcServer::State {
  State(RpcServerOptions options, Service& service, Metrics& metrics)
      : environment(service, metrics, std::move(options)) {
    services.push_back(internal::MakeAdminService(environment));
    services.push_back(internal::MakeAnalysisService(environment));
    services.push_back(internal::MakeJobService(environment));
    services.push_back(internal::MakeModelService(environment));
    services.push_back(internal::MakeResultService(environment));
  }

  internal::CallEnvironment environment;
  std::vector<std::unique_ptr<grpc::Service>> services;
  std::string address;
  // Last: it goes before what its calls use.
  std::unique_ptr<grpc::Server> server;
};

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(
    RpcServerOptions options, Service& service, Metrics& metrics) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  const std::string listen = options.listen;
  grpc::ResourceQuota quota("moescope");
  quota.SetMaxThreads(options.max_threads);
  auto state = std::make_unique<State>(std::move(options), service, metrics);

  grpc::ServerBuilder builder;
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(internal::kMaxReceiveBytes);
  // Else a second server on the same port would take half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Who vanished without a word is noticed, also while nothing can be sent.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveAnswerMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  int port = 0;
  builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &port);
  for (const auto& handlers : state->services) {
    builder.RegisterService(handlers.get());
  }
  state->server = builder.BuildAndStart();
  if (state->server == nullptr || port <= 0) {
    return FieldError(absl::StatusCode::kUnavailable, "listen",
                      absl::StrCat(QuoteName(listen),
                                   " is in use or not of this machine"),
                      "ADDRESS_IN_USE");
  }
  state->address = WithPort(listen, port);
  std::unique_ptr<RpcServer> server(new RpcServer(std::move(state)));
  server->SetReady(false);
  server->state_->server->GetHealthCheckService()->SetServingStatus("liveness",
                                                                    true);
  return server;
}

RpcServer::RpcServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

RpcServer::~RpcServer() { Shutdown(absl::ZeroDuration()); }

const std::string& RpcServer::address() const { return state_->address; }

void RpcServer::SetReady(bool ready) {
  grpc::HealthCheckServiceInterface* const health =
      state_->server->GetHealthCheckService();
  health->SetServingStatus("", ready);
  health->SetServingStatus("readiness", ready);
  for (const char* const name : kServiceNames) {
    health->SetServingStatus(name, ready);
  }
}

void RpcServer::BeginDrain() {
  state_->environment.draining.store(true);
  SetReady(false);
}

void RpcServer::Shutdown(absl::Duration grace) {
  state_->environment.stopping.Cancel(DrainingError());
  state_->server->Shutdown(std::chrono::system_clock::now() +
                           absl::ToChronoNanoseconds(grace));
  state_->server->Wait();
}

}  // namespace moescope
