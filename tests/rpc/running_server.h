#pragma once

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "moescope/v1/analysis.grpc.pb.h"
#include "moescope/v1/job.grpc.pb.h"
#include "moescope/v1/model.grpc.pb.h"

#include "moescope/base/clock.h"
#include "moescope/codec/messages.h"
#include "moescope/rpc/rpc_server.h"
#include "moescope/service/service.h"
#include "moescope/telemetry/metrics.h"

namespace moescope {

/// A whole server of this process, with a channel to it.
class RunningServer : public testing::Test {
 protected:
  static constexpr char kModel[] = "tiny-mixtral";
  static constexpr int kMaxTokens = 200000;

  RunningServer()
      : folder_(std::filesystem::path(testing::TempDir()) /
                ("running_server_" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(folder_);
  }
  ~RunningServer() override {
    server_.reset();
    service_.reset();
    std::filesystem::remove_all(folder_);
  }

  /// The models of this project and one worker.
  ServiceOptions OneWorker() const {
    ServiceOptions options;
    options.model_root = MOESCOPE_SOURCE_DIR "/tests/testdata/models";
    options.data_dir = (folder_ / "data").string();
    options.device = "cpu";
    options.version = "0.0.0";
    options.max_tokens = kMaxTokens;
    options.workers = 1;
    return options;
  }

  void Start(const ServiceOptions& options,
             const RpcServerOptions& rpc_options) {
    auto service = Service::Create(options, Clock::Real(), metrics_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
    auto server = RpcServer::Start(rpc_options, *service_, metrics_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->address(),
                                   grpc::InsecureChannelCredentials());
    analysis_ = v1::AnalysisService::NewStub(channel_);
    models_ = v1::ModelService::NewStub(channel_);
    jobs_ = v1::JobService::NewStub(channel_);
  }

  static v1::TraceRoutingRequest TraceRequest() {
    v1::TraceRoutingRequest request;
    request.mutable_spec()->set_model(kModel);
    v1::TokenIds& tokens =
        *request.mutable_input()->add_documents()->mutable_tokens();
    tokens.add_ids(1);
    tokens.add_ids(5);
    tokens.add_ids(9);
    return request;
  }

  /// What a trace answered.
  struct Trace {
    grpc::Status status;
    std::vector<spec::Chunk> chunks;
    v1::Result result;
    std::string cache;
  };
  Trace RunTrace(const v1::TraceRoutingRequest& request) {
    Trace trace;
    grpc::ClientContext context;
    const auto reader = analysis_->TraceRouting(&context, request);
    v1::TraceRoutingResponse response;
    codec::ChunkAssembler assembler;
    while (reader->Read(&response)) {
      if (response.has_result()) {
        trace.result = response.result();
        continue;
      }
      auto chunk = assembler.Add(response.slice());
      EXPECT_TRUE(chunk.ok()) << chunk.status();
      if (chunk.ok() && chunk->has_value()) {
        trace.chunks.push_back(**std::move(chunk));
      }
    }
    trace.status = reader->Finish();
    const auto& metadata = context.GetServerInitialMetadata();
    const auto cache = metadata.find("moescope-cache");
    if (cache != metadata.end()) {
      trace.cache = std::string(cache->second.data(), cache->second.size());
    }
    return trace;
  }

  /// The id of the job.
  std::string Submit(const v1::SubmitAnalysisRequest& request) {
    v1::SubmitAnalysisResponse response;
    grpc::ClientContext context;
    const grpc::Status status =
        analysis_->SubmitAnalysis(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.job().id();
  }

  /// A job that keeps the only worker busy until it is cancelled.
  std::string OccupyWorker() {
    v1::SubmitAnalysisRequest request;
    request.mutable_spec()->mutable_activation_statistics()->set_model(kModel);
    for (int i = 0; i < kMaxTokens / 1000; ++i) {
      request.mutable_input()->add_documents()->mutable_tokens()->mutable_ids()
          ->Resize(1000, 7);
    }
    const std::string id = Submit(request);
    // Until it runs, jobs of a direct call would go first.
    const absl::Time bound = absl::Now() + absl::Seconds(30);
    while (StateOf(id) != v1::JOB_STATE_RUNNING && absl::Now() < bound) {
      absl::SleepFor(absl::Milliseconds(2));
    }
    EXPECT_EQ(StateOf(id), v1::JOB_STATE_RUNNING);
    return id;
  }

  void CancelJob(const std::string& id) {
    v1::CancelJobRequest request;
    request.set_id(id);
    v1::CancelJobResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(jobs_->CancelJob(&context, request, &response).ok());
  }

  v1::JobState StateOf(const std::string& id) {
    v1::GetJobRequest request;
    request.set_id(id);
    v1::GetJobResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(jobs_->GetJob(&context, request, &response).ok());
    return response.job().state();
  }

  /// The reason that the details of `status` give.
  static std::string ReasonOf(const grpc::Status& status) {
    google::rpc::Status details;
    google::rpc::ErrorInfo info;
    EXPECT_TRUE(details.ParseFromString(status.error_details()));
    EXPECT_GT(details.details_size(), 0);
    EXPECT_TRUE(details.details(0).UnpackTo(&info));
    return info.reason();
  }

  /// The first field that the details of `status` complain of.
  static std::string FieldOf(const grpc::Status& status) {
    google::rpc::Status details;
    google::rpc::BadRequest request;
    EXPECT_TRUE(details.ParseFromString(status.error_details()));
    for (const auto& detail : details.details()) {
      if (detail.UnpackTo(&request)) {
        return request.field_violations(0).field();
      }
    }
    return "";
  }

  const std::filesystem::path folder_;
  Metrics metrics_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::AnalysisService::Stub> analysis_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
};

}  // namespace moescope
