// What the wire allows, and how it says no.

#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "moescope/v1/admin.grpc.pb.h"
#include "moescope/v1/analysis.grpc.pb.h"
#include "moescope/v1/job.grpc.pb.h"
#include "moescope/v1/model.grpc.pb.h"

#include "moescope/rpc/rpc_server.h"
#include "tests/rpc/running_server.h"

namespace moescope {
namespace {

using testing::HasSubstr;

constexpr int kMaxStreams = 2;
constexpr std::int64_t kMaxPageBytes = 11000;

// A server with small limits.
class WireLimitsTest : public RunningServer {
 protected:
  void SetUp() override {
    RpcServerOptions options;
    options.max_streams = kMaxStreams;
    options.max_page_bytes = kMaxPageBytes;
    Start(OneWorker(), options);
  }

  // A job whose record is a little longer than `label`.
  std::string SubmitLabelled(const std::string& label) {
    v1::SubmitAnalysisRequest request;
    request.mutable_spec()->mutable_activation_statistics()->set_model(kModel);
    *request.mutable_input() = TraceRequest().input();
    request.mutable_input()->mutable_documents(0)->set_label(label);
    return Submit(request);
  }

  grpc::Status TrySubmit(const v1::SubmitAnalysisRequest& request) {
    v1::SubmitAnalysisResponse response;
    grpc::ClientContext context;
    return analysis_->SubmitAnalysis(&context, request, &response);
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
};

TEST_F(WireLimitsTest, OneStreamTooManyIsRefusedAndOtherCallsAreAnswered) {
  const std::string busy = OccupyWorker();
  grpc::ClientContext first_context;
  grpc::ClientContext second_context;
  const auto first = OpenWatch(busy, first_context);
  const auto second = OpenWatch(busy, second_context);

  const grpc::Status refused = RunTrace(TraceRequest()).status;
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
  EXPECT_EQ(RunTrace(TraceRequest()).status.error_code(),
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

  EXPECT_EQ(FieldOf(RunTrace(trace).status), "spec.model");
  EXPECT_EQ(FieldOf(analysis_->ComputeExpertSimilarity(&context, similarity,
                                                       &response)),
            "spec.baseline");
}

TEST_F(WireLimitsTest, SubmittedSpecIsNamedAsItsAnalysisIs) {
  const auto& analyses = *v1::AnalysisSpec::descriptor()->oneof_decl(0);
  ASSERT_GT(analyses.field_count(), 0);
  for (int i = 0; i < analyses.field_count(); ++i) {
    v1::SubmitAnalysisRequest request;
    v1::AnalysisSpec& spec = *request.mutable_spec();
    google::protobuf::Message& chosen =
        *spec.GetReflection()->MutableMessage(&spec, analyses.field(i));
    const std::string path = "spec." + analyses.field(i)->name();
    const auto* const model =
        chosen.GetDescriptor()->FindFieldByName("model");

    EXPECT_EQ(FieldOf(TrySubmit(request)), path + ".model");
    chosen.GetReflection()->SetString(&chosen, model, "nobody");
    const grpc::Status unknown = TrySubmit(request);
    EXPECT_EQ(FieldOf(unknown), path + ".model");
    EXPECT_THAT(unknown.error_message(),
                testing::StartsWith(path + ".model: \"nobody\""));
  }
}

TEST_F(WireLimitsTest, WrongLayerOfASubmittedSpecIsNamedByItsPath) {
  v1::SubmitAnalysisRequest request;
  v1::MatrixPcaSpec& spec = *request.mutable_spec()->mutable_matrix_pca();
  spec.set_model(kModel);
  spec.add_layers(99);

  EXPECT_EQ(FieldOf(TrySubmit(request)), "spec.matrix_pca.layers");
  EXPECT_EQ(FieldOf(TrySubmit(v1::SubmitAnalysisRequest())), "spec");
}

TEST_F(WireLimitsTest, WrongInputIsNamedWhereTheClientWroteIt) {
  v1::TraceRoutingRequest beside = TraceRequest();
  beside.mutable_input()->mutable_documents(0)->mutable_tokens()->set_ids(0, -1);
  v1::TraceRoutingRequest inside;
  inside.mutable_spec()->set_model(kModel);
  inside.mutable_spec()->mutable_input()->add_ids(-1);
  inside.mutable_spec()->mutable_input()->add_lengths(1);

  EXPECT_EQ(FieldOf(RunTrace(beside).status), "input");
  EXPECT_EQ(FieldOf(RunTrace(inside).status), "spec.input");
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
