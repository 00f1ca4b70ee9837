// What the wire allows, and how it says no.
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "moescope/v1/admin.grpc.pb.h"
#include "moescope/v1/analysis.grpc.pb.h"
#include "moescope/v1/job.grpc.pb.h"
#include "moescope/v1/model.grpc.pb.h"

#include "moescope/base/clock.h"
#include "moescope/rpc/rpc_server.h"
#include "moescope/service/service.h"
#include "moescope/telemetry/metrics.h"

namespace moescope {
namespace {

using testing::HasSubstr;

constexpr char kModel[] = "tiny-mixtral";
constexpr int kMaxTokens = 200000;
constexpr int kMaxStreams = 2;
constexpr std::int64_t kMaxPageBytes = 11000;

// A whole server with small limits, and a channel to it.
class WireLimitsTest : public testing::Test {
 protected:
  void SetUp() override {
    data_dir_ = testing::TempDir() + "wire_limits_test_" +
                std::to_string(::getpid());
    std::filesystem::remove_all(data_dir_);
    ServiceOptions options;
    options.model_root = MOESCOPE_SOURCE_DIR "/tests/testdata/models";
    options.data_dir = data_dir_;
    options.device = "cpu";
    options.version = "0.0.0";
    options.max_tokens = kMaxTokens;
    options.workers = 1;
    auto service = Service::Create(options, Clock::Real(), metrics_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
    RpcServerOptions rpc_options;
    rpc_options.max_streams = kMaxStreams;
    rpc_options.max_page_bytes = kMaxPageBytes;
    auto server = RpcServer::Start(rpc_options, *service_, metrics_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->address(),
                                   grpc::InsecureChannelCredentials());
    analysis_ = v1::AnalysisService::NewStub(channel_);
    models_ = v1::ModelService::NewStub(channel_);
    jobs_ = v1::JobService::NewStub(channel_);
  }
  void TearDown() override {
    server_.reset();
    service_.reset();
    std::filesystem::remove_all(data_dir_);
  }

  static v1::TraceRoutingRequest TraceRequest() {
    v1::TraceRoutingRequest request;
    request.mutable_spec()->set_model(kModel);
    v1::TokenIds& tokens =
        *request.mutable_input()->add_documents()->mutable_tokens();
    tokens.add_ids(1);
    tokens.add_ids(5);
    return request;
  }

  grpc::Status RunTrace(const v1::TraceRoutingRequest& request) {
    grpc::ClientContext context;
    const auto reader = analysis_->TraceRouting(&context, request);
    v1::TraceRoutingResponse response;
    while (reader->Read(&response)) {
    }
    return reader->Finish();
  }

  std::string Submit(const v1::SubmitAnalysisRequest& request) {
    v1::SubmitAnalysisResponse response;
    grpc::ClientContext context;
    const grpc::Status status =
        analysis_->SubmitAnalysis(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.job().id();
  }

  // A job that keeps the only worker busy until it is cancelled.
  std::string OccupyWorker() {
    v1::SubmitAnalysisRequest request;
    request.mutable_spec()->mutable_activation_statistics()->set_model(kModel);
    for (int i = 0; i < kMaxTokens / 1000; ++i) {
      request.mutable_input()->add_documents()->mutable_tokens()->mutable_ids()
          ->Resize(1000, 7);
    }
    return Submit(request);
  }

  void CancelJob(const std::string& id) {
    v1::CancelJobRequest request;
    request.set_id(id);
    v1::CancelJobResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(jobs_->CancelJob(&context, request, &response).ok());
  }

  // A job whose record is a little longer than `label`.
  std::string SubmitLabelled(const std::string& label) {
    v1::SubmitAnalysisRequest request;
    request.mutable_spec()->mutable_activation_statistics()->set_model(kModel);
    *request.mutable_input() = TraceRequest().input();
    request.mutable_input()->mutable_documents(0)->set_label(label);
    return Submit(request);
  }

  v1::ListJobsResponse ListJobs(const std::string& page_token) {
    v1::ListJobsRequest request;
    request.set_page_token(page_token);
    v1::ListJobsResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(jobs_->ListJobs(&context, request, &response).ok());
    return response;
  }

  // A stream about `id`, of which something has come.
  std::unique_ptr<grpc::ClientReader<v1::WatchJobResponse>> OpenWatch(
      const std::string& id, grpc::ClientContext& context) {
    v1::WatchJobRequest request;
    request.set_id(id);
    auto reader = jobs_->WatchJob(&context, request);
    v1::WatchJobResponse response;
    EXPECT_TRUE(reader->Read(&response));
    return reader;
  }

  // The reason that the details of `status` give.
  static std::string ReasonOf(const grpc::Status& status) {
    google::rpc::Status details;
    google::rpc::ErrorInfo info;
    EXPECT_TRUE(details.ParseFromString(status.error_details()));
    EXPECT_GT(details.details_size(), 0);
    EXPECT_TRUE(details.details(0).UnpackTo(&info));
    return info.reason();
  }

  // The first field that the details of `status` complain of.
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

  std::string data_dir_;
  Metrics metrics_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::AnalysisService::Stub> analysis_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
};

TEST_F(WireLimitsTest, OneStreamTooManyIsRefusedAndOtherCallsAreAnswered) {
  const std::string busy = OccupyWorker();
  grpc::ClientContext first_context;
  grpc::ClientContext second_context;
  const auto first = OpenWatch(busy, first_context);
  const auto second = OpenWatch(busy, second_context);

  const grpc::Status refused = RunTrace(TraceRequest());
  v1::GetServerInfoResponse info;
  grpc::ClientContext info_context;
  const grpc::Status answered =
      v1::AdminService::NewStub(channel_)->GetServerInfo(&info_context, {},
                                                         &info);
  CancelJob(busy);
  first_context.TryCancel();
  second_context.TryCancel();

  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(refused), "STREAM_LIMIT");
  EXPECT_TRUE(answered.ok()) << answered.error_message();
  EXPECT_EQ(info.limits().max_streams(), kMaxStreams);
}

TEST_F(WireLimitsTest, DrainingServerRefusesNewCallsAndSaysSo) {
  const std::string busy = OccupyWorker();
  grpc::ClientContext watch_context;
  const auto watch = OpenWatch(busy, watch_context);

  server_->BeginDrain();

  v1::GetJobRequest request;
  request.set_id(busy);
  v1::GetJobResponse response;
  grpc::ClientContext context;
  const grpc::Status refused = jobs_->GetJob(&context, request, &response);
  v1::GetServerInfoResponse info;
  grpc::ClientContext info_context;
  const grpc::Status answered =
      v1::AdminService::NewStub(channel_)->GetServerInfo(&info_context, {},
                                                         &info);
  ASSERT_TRUE(service_->CancelJob(busy).ok());
  v1::WatchJobResponse last;
  EXPECT_TRUE(watch->Read(&last));  // A stream under way goes on.

  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(refused), "DRAINING");
  EXPECT_EQ(RunTrace(TraceRequest()).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(answered.ok()) << answered.error_message();
  EXPECT_TRUE(info.draining());
}

TEST_F(WireLimitsTest, LongUnknownJobIsNotFoundToo) {
  v1::GetJobRequest request;
  request.set_id(std::string(20000, 'x'));
  v1::GetJobResponse response;
  grpc::ClientContext context;

  const grpc::Status status = jobs_->GetJob(&context, request, &response);

  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("is unknown or expired"));
}

TEST_F(WireLimitsTest, ReplyThatAStockClientWouldRefuseIsRefused) {
  v1::TokenizeRequest request;
  request.set_model(kModel);
  request.mutable_tokens()->mutable_ids()->Resize(1000000, 5);
  v1::TokenizeResponse response;
  grpc::ClientContext context;

  const grpc::Status status = models_->Tokenize(&context, request, &response);

  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(status), "REPLY_TOO_LARGE");
}

TEST_F(WireLimitsTest, PageOfJobsEndsBeforeItIsTooLargeForAReply) {
  const std::string first = SubmitLabelled(std::string(4000, 'a'));
  const std::string second = SubmitLabelled(std::string(4000, 'b'));
  const std::string third = SubmitLabelled(std::string(4000, 'c'));

  const v1::ListJobsResponse newest = ListJobs("");
  const v1::ListJobsResponse rest = ListJobs(newest.next_page_token());

  ASSERT_EQ(newest.jobs_size(), 2);
  EXPECT_EQ(newest.jobs(0).id(), third);
  EXPECT_EQ(newest.jobs(1).id(), second);
  ASSERT_EQ(rest.jobs_size(), 1);
  EXPECT_EQ(rest.jobs(0).id(), first);
  EXPECT_EQ(rest.next_page_token(), "");
}

TEST_F(WireLimitsTest, UnknownModelIsNamedWhereTheClientWroteIt) {
  v1::TraceRoutingRequest trace = TraceRequest();
  trace.mutable_spec()->set_model("nobody");
  v1::ComputeExpertSimilarityRequest similarity;
  similarity.mutable_spec()->set_model(kModel);
  similarity.mutable_spec()->set_baseline("nobody");
  v1::ComputeExpertSimilarityResponse response;
  grpc::ClientContext context;

  EXPECT_EQ(FieldOf(RunTrace(trace)), "spec.model");
  EXPECT_EQ(FieldOf(analysis_->ComputeExpertSimilarity(&context, similarity,
                                                       &response)),
            "spec.baseline");
}

TEST_F(WireLimitsTest, WrongInputIsNamedWhereTheClientWroteIt) {
  v1::TraceRoutingRequest beside = TraceRequest();
  beside.mutable_input()->mutable_documents(0)->mutable_tokens()->set_ids(0, -1);
  v1::TraceRoutingRequest inside;
  inside.mutable_spec()->set_model(kModel);
  inside.mutable_spec()->mutable_input()->add_ids(-1);
  inside.mutable_spec()->mutable_input()->add_lengths(1);

  EXPECT_EQ(FieldOf(RunTrace(beside)), "input");
  EXPECT_EQ(FieldOf(RunTrace(inside)), "spec.input");
}

TEST_F(WireLimitsTest, WrongActivationSettingIsNamedWhereTheClientWroteIt) {
  v1::ComputeNeuronStatisticsRequest request;
  request.mutable_spec()->set_model(kModel);
  *request.mutable_input() = TraceRequest().input();
  request.mutable_activation()->set_top_tokens(100000);
  v1::ComputeNeuronStatisticsResponse response;
  grpc::ClientContext context;

  const grpc::Status status =
      analysis_->ComputeNeuronStatistics(&context, request, &response);

  EXPECT_EQ(FieldOf(status), "activation.top_tokens");
  EXPECT_THAT(status.error_message(),
              testing::StartsWith("activation.top_tokens: "));
}

TEST_F(WireLimitsTest, WrongTokenIsNamedWhereTheClientWroteIt) {
  v1::TokenizeRequest request;
  request.set_model(kModel);
  request.mutable_tokens()->add_ids(1);
  request.mutable_tokens()->add_ids(-1);
  v1::TokenizeResponse response;
  grpc::ClientContext context;

  EXPECT_EQ(FieldOf(models_->Tokenize(&context, request, &response)),
            "tokens.ids[1]");
}

}  // namespace
}  // namespace moescope
