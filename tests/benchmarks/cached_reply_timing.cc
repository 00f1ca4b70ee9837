// How long cached answers take beside an empty call, over one connection to a
// server in this process: medians, in milliseconds, and their ratio.
//
//   cached_reply_timing MODEL_ROOT MODEL DATA_DIR [CALLS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "absl/time/clock.h"
#include "moescope/v1/admin.grpc.pb.h"
#include "moescope/v1/analysis.grpc.pb.h"

#include "moescope/base/clock.h"
#include "moescope/rpc/rpc_server.h"
#include "moescope/service/service.h"
#include "moescope/telemetry/metrics.h"

namespace moescope {
namespace {

void Require(const grpc::Status& status) {
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.error_message().c_str());
    std::exit(1);
  }
}

// The median of `calls` calls, the first of which is not counted.
double MedianMs(int calls, const std::function<void()>& call) {
  call();
  std::vector<double> times;
  for (int i = 0; i < calls; ++i) {
    const absl::Time start = absl::Now();
    call();
    times.push_back(absl::ToDoubleMilliseconds(absl::Now() - start));
  }
  std::nth_element(times.begin(), times.begin() + calls / 2, times.end());
  return times[static_cast<std::size_t>(calls / 2)];
}

v1::Input TwoTokens() {
  v1::Input input;
  v1::TokenIds& tokens = *input.add_documents()->mutable_tokens();
  tokens.add_ids(1);
  tokens.add_ids(5);
  return input;
}

class Calls {
 public:
  Calls(const std::string& address, std::string model)
      : model_(std::move(model)),
        channel_(grpc::CreateChannel(address,
                                     grpc::InsecureChannelCredentials())),
        admin_(v1::AdminService::NewStub(channel_)),
        analysis_(v1::AnalysisService::NewStub(channel_)) {}

  void Empty() {
    v1::GetCacheStatsResponse response;
    grpc::ClientContext context;
    Require(admin_->GetCacheStats(&context, {}, &response));
  }
  void Similarity() {
    v1::ComputeExpertSimilarityRequest request;
    request.mutable_spec()->set_model(model_);
    request.mutable_spec()->add_layers(0);
    request.mutable_spec()->add_levels("router");
    v1::ComputeExpertSimilarityResponse response;
    grpc::ClientContext context;
    Require(analysis_->ComputeExpertSimilarity(&context, request, &response));
  }
  void Trace() {
    v1::TraceRoutingRequest request;
    request.mutable_spec()->set_model(model_);
    *request.mutable_input() = TwoTokens();
    v1::TraceRoutingResponse response;
    grpc::ClientContext context;
    const auto reader = analysis_->TraceRouting(&context, request);
    while (reader->Read(&response)) {
    }
    Require(reader->Finish());
  }
  void Neurons() {
    v1::ComputeNeuronStatisticsRequest request;
    request.mutable_spec()->set_model(model_);
    request.mutable_spec()->add_layers(0);
    *request.mutable_input() = TwoTokens();
    v1::ComputeNeuronStatisticsResponse response;
    grpc::ClientContext context;
    Require(analysis_->ComputeNeuronStatistics(&context, request, &response));
  }

 private:
  const std::string model_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::AdminService::Stub> admin_;
  const std::unique_ptr<v1::AnalysisService::Stub> analysis_;
};

int Main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s MODEL_ROOT MODEL DATA_DIR [CALLS]\n",
                 argv[0]);
    return 2;
  }
  const int calls = argc > 4 ? std::max(1, std::atoi(argv[4])) : 500;
  Metrics metrics;
  ServiceOptions options;
  options.model_root = argv[1];
  options.data_dir = argv[3];
  options.device = "cpu";
  options.version = "benchmark";
  const auto service = Service::Create(options, Clock::Real(), metrics);
  if (!service.ok()) {
    std::fprintf(stderr, "%s\n", service.status().ToString().c_str());
    return 1;
  }
  const auto server = RpcServer::Start({}, **service, metrics);
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.status().ToString().c_str());
    return 1;
  }
  Calls client((*server)->address(), argv[2]);
  const double empty = MedianMs(calls, [&] { client.Empty(); });
  const double similarity = MedianMs(calls, [&] { client.Similarity(); });
  const double trace = MedianMs(calls, [&] { client.Trace(); });
  const double neurons = MedianMs(calls, [&] { client.Neurons(); });
  std::printf("empty call  %.3f ms\n", empty);
  std::printf("similarity  %.3f ms  %.2f\n", similarity, similarity / empty);
  std::printf("trace       %.3f ms  %.2f\n", trace, trace / empty);
  std::printf("neurons     %.3f ms  %.2f\n", neurons, neurons / empty);
  return 0;
}

}  // namespace
}  // namespace moescope

int main(int argc, char** argv) { return moescope::Main(argc, argv); }
