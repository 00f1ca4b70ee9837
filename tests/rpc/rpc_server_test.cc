#include "moescope/rpc/rpc_server.h"

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "moescope/v1/admin.grpc.pb.h"
#include "moescope/v1/analysis.grpc.pb.h"
#include "moescope/v1/job.grpc.pb.h"
#include "moescope/v1/model.grpc.pb.h"
#include "moescope/v1/result.grpc.pb.h"

#include "moescope/codec/messages.h"
#include "tests/rpc/running_server.h"

namespace moescope {
namespace {

using testing::HasSubstr;

// A unary call whose metadata are looked at before its reply.
class NeuronCall {
 public:
  NeuronCall(v1::AnalysisService::Stub& stub,
             const v1::ComputeNeuronStatisticsRequest& request,
             absl::Duration timeout = absl::Hours(1)) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    reader_ = stub.PrepareAsyncComputeNeuronStatistics(&context_, request,
                                                       &queue_);
    reader_->StartCall();
  }

  // The jobs that the initial metadata name.
  std::vector<std::string> WaitForJobs() {
    reader_->ReadInitialMetadata(nullptr);
    WaitForEvent();
    std::vector<std::string> ids;
    const auto told =
        context_.GetServerInitialMetadata().equal_range("moescope-job-id");
    for (auto entry = told.first; entry != told.second; ++entry) {
      ids.emplace_back(entry->second.data(), entry->second.size());
    }
    return ids;
  }
  void Leave() { context_.TryCancel(); }
  grpc::Status Finish() {
    grpc::Status status;
    reader_->Finish(&response_, &status, nullptr);
    WaitForEvent();
    return status;
  }

 private:
  void WaitForEvent() {
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue_.Next(&tag, &ok));
  }

  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  v1::ComputeNeuronStatisticsResponse response_;
  std::unique_ptr<
      grpc::ClientAsyncResponseReader<v1::ComputeNeuronStatisticsResponse>>
      reader_;
};

class RpcServerTest : public RunningServer {
 protected:
  void SetUp() override {
    RpcServerOptions options;
    options.watch_heartbeat = absl::Milliseconds(50);
    Start(OneWorker(), options);
  }

  v1::Job WatchToEnd(const std::string& id) {
    v1::WatchJobRequest request;
    request.set_id(id);
    grpc::ClientContext context;
    const auto reader = jobs_->WatchJob(&context, request);
    v1::WatchJobResponse response;
    v1::Job last;
    while (reader->Read(&response)) {
      if (response.has_job()) {
        last = response.job();
      }
    }
    EXPECT_TRUE(reader->Finish().ok());
    return last;
  }

  // Until when the job `id` waits for its caller, once that is at most `bound`.
  absl::Time WaitForCallerExpiry(const std::string& id, absl::Time bound) {
    const absl::Time end = absl::Now() + absl::Seconds(20);
    absl::Time expires = absl::InfiniteFuture();
    while (expires > bound && absl::Now() < end) {
      absl::SleepFor(absl::Milliseconds(10));
      expires = service_->GetJob(id)->caller_expires.value_or(expires);
    }
    return expires;
  }
};

TEST_F(RpcServerTest, SecondTraceComesFromTheCacheWithTheSameDigest) {
  const Trace first = RunTrace(TraceRequest());
  const Trace second = RunTrace(TraceRequest());

  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  ASSERT_TRUE(second.status.ok()) << second.status.error_message();
  EXPECT_EQ(first.cache, "miss");
  EXPECT_EQ(second.cache, "hit");
  EXPECT_EQ(first.result.state(), v1::RESULT_STATE_COMPLETE);
  EXPECT_FALSE(first.chunks.empty());
  EXPECT_EQ(first.result.digest(), second.result.digest());
}

TEST_F(RpcServerTest, SimilarityHasAMatrixPerLayer) {
  v1::ComputeExpertSimilarityRequest request;
  request.mutable_spec()->set_model(kModel);
  request.mutable_spec()->add_layers(0);
  request.mutable_spec()->add_levels("router");
  v1::ComputeExpertSimilarityResponse response;
  grpc::ClientContext context;

  const grpc::Status status =
      analysis_->ComputeExpertSimilarity(&context, request, &response);

  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.layers_size(), 1);
  ASSERT_EQ(response.layers(0).matrices_size(), 1);
  EXPECT_THAT(response.layers(0).matrices(0).values().shape(),
              testing::ElementsAre(8, 8));
}

TEST_F(RpcServerTest, UnknownModelIsNotFound) {
  v1::TraceRoutingRequest request = TraceRequest();
  request.mutable_spec()->set_model("nobody");

  EXPECT_EQ(RunTrace(request).status.error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(RpcServerTest, LayerBeyondTheModelIsOutOfRange) {
  v1::TraceRoutingRequest request = TraceRequest();
  request.mutable_spec()->add_layers(99);

  const grpc::Status status = RunTrace(request).status;

  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_THAT(FieldOf(status), HasSubstr("spec.layers"));
}

TEST_F(RpcServerTest, TooManyTokensAreResourceExhaustedWithTheLimit) {
  v1::TraceRoutingRequest request = TraceRequest();
  request.mutable_input()->mutable_documents(0)->mutable_tokens()->mutable_ids()
      ->Resize(kMaxTokens + 1, 1);

  const grpc::Status status = RunTrace(request).status;

  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("200000"));
}

TEST_F(RpcServerTest, InputInTwoPlacesIsRefused) {
  v1::TraceRoutingRequest request = TraceRequest();
  request.mutable_spec()->mutable_input()->add_ids(1);

  const grpc::Status status = RunTrace(request).status;

  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "input");
}

TEST_F(RpcServerTest, ModelNameThatLeavesTheRootIsInvalid) {
  v1::GetModelRequest request;
  request.set_model("../x");
  v1::GetModelResponse response;
  grpc::ClientContext context;

  const grpc::Status status = models_->GetModel(&context, request, &response);

  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(FieldOf(status), HasSubstr("model"));
}

TEST_F(RpcServerTest, TokensTellWhichOfThemAreSpecial) {
  v1::TokenizeRequest request;
  request.set_model(kModel);
  request.set_text("As");
  v1::TokenizeResponse response;
  grpc::ClientContext context;

  const grpc::Status status = models_->Tokenize(&context, request, &response);

  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.tokens_size(), 3);
  EXPECT_EQ(response.tokens(0).text(), "<s>");
  EXPECT_TRUE(response.tokens(0).special());
  EXPECT_FALSE(response.tokens(1).special());
  EXPECT_FALSE(response.tokens(2).special());
}

TEST_F(RpcServerTest, EstimateCountsTheTokensThatGoThroughTheModel) {
  v1::SubmitAnalysisRequest request;
  request.mutable_spec()->mutable_activation_statistics()->set_model(kModel);
  request.mutable_input()->add_documents()->set_text("As");
  request.mutable_input()->add_documents()->mutable_tokens()->mutable_ids()
      ->Resize(100, 7);
  v1::SubmitAnalysisResponse response;
  grpc::ClientContext context;

  const grpc::Status status =
      analysis_->SubmitAnalysis(&context, request, &response);

  ASSERT_TRUE(status.ok()) << status.error_message();
  // The text is BOS and two more.
  EXPECT_EQ(response.estimated_cost().tokens(), 103);
  EXPECT_EQ(response.job().estimated_cost().tokens(), 103);
}

TEST_F(RpcServerTest, EstimateOfAnAnalysisOfWeightsCountsNoTokens) {
  v1::SubmitAnalysisRequest request;
  request.set_validate_only(true);
  request.mutable_spec()->mutable_expert_similarity()->set_model(kModel);
  v1::SubmitAnalysisResponse response;
  grpc::ClientContext context;

  const grpc::Status status =
      analysis_->SubmitAnalysis(&context, request, &response);

  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.estimated_cost().tokens(), 0);
  EXPECT_GT(response.estimated_cost().seconds(), 0);
}

TEST_F(RpcServerTest, SubmittedJobCanBeWatchedToItsEnd) {
  v1::SubmitAnalysisRequest request;
  request.mutable_spec()->mutable_expert_similarity()->set_model(kModel);
  v1::SubmitAnalysisResponse submitted;
  grpc::ClientContext submit_context;
  const grpc::Status status =
      analysis_->SubmitAnalysis(&submit_context, request, &submitted);
  ASSERT_TRUE(status.ok()) << status.error_message();

  const v1::Job last = WatchToEnd(submitted.job().id());

  EXPECT_EQ(last.state(), v1::JOB_STATE_SUCCEEDED) << last.error().message();
  EXPECT_EQ(last.result().size(), 64u);
}

TEST_F(RpcServerTest, WatchedJobThatDoesNotChangeSendsHeartbeats) {
  const std::string busy = OccupyWorker();
  v1::SubmitAnalysisRequest request;
  request.mutable_spec()->mutable_expert_similarity()->set_model(kModel);
  v1::SubmitAnalysisResponse queued;
  grpc::ClientContext submit_context;
  ASSERT_TRUE(
      analysis_->SubmitAnalysis(&submit_context, request, &queued).ok());

  v1::WatchJobRequest watch;
  watch.set_id(queued.job().id());
  watch.set_after_sequence(queued.job().sequence());
  grpc::ClientContext watch_context;
  const auto reader = jobs_->WatchJob(&watch_context, watch);
  v1::WatchJobResponse first;
  v1::WatchJobResponse second;
  ASSERT_TRUE(reader->Read(&first));
  ASSERT_TRUE(reader->Read(&second));
  watch_context.TryCancel();
  CancelJob(busy);

  EXPECT_TRUE(first.heartbeat());
  EXPECT_FALSE(first.has_job());
  EXPECT_TRUE(second.heartbeat());
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(RpcServerTest, UnaryCallTellsItsJobsBeforeItsReply) {
  const std::string busy = OccupyWorker();
  v1::ComputeNeuronStatisticsRequest request;
  request.mutable_spec()->set_model(kModel);
  *request.mutable_input() = TraceRequest().input();
  NeuronCall call(*analysis_, request);

  const std::vector<std::string> ids = call.WaitForJobs();

  ASSERT_EQ(ids.size(), 2u);
  EXPECT_EQ(StateOf(ids[0]), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(StateOf(ids[1]), v1::JOB_STATE_QUEUED);
  CancelJob(ids[0]);
  CancelJob(ids[1]);
  EXPECT_EQ(call.Finish().error_code(), grpc::StatusCode::CANCELLED);
  CancelJob(busy);
}

TEST_F(RpcServerTest, JobsOfALostUnaryCallWaitHalfAMinuteForTheirCaller) {
  const std::string busy = OccupyWorker();
  v1::ComputeNeuronStatisticsRequest request;
  request.mutable_spec()->set_model(kModel);
  *request.mutable_input() = TraceRequest().input();
  NeuronCall call(*analysis_, request);
  const std::vector<std::string> ids = call.WaitForJobs();
  ASSERT_EQ(ids.size(), 2u);

  call.Leave();

  EXPECT_EQ(call.Finish().error_code(), grpc::StatusCode::CANCELLED);
  // While it was connected it had two minutes.
  const absl::Time bound = absl::Now() + absl::Minutes(1);
  EXPECT_LE(WaitForCallerExpiry(ids[0], bound), bound);
  EXPECT_LE(WaitForCallerExpiry(ids[1], bound), bound);
  EXPECT_EQ(StateOf(ids[0]), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(StateOf(ids[1]), v1::JOB_STATE_QUEUED);
  CancelJob(busy);
}

TEST_F(RpcServerTest, DeadlineOfACallIsThatOfItsJobs) {
  const std::string busy = OccupyWorker();
  v1::ComputeNeuronStatisticsRequest request;
  request.mutable_spec()->set_model(kModel);
  *request.mutable_input() = TraceRequest().input();
  NeuronCall call(*analysis_, request, absl::Seconds(2));
  const std::vector<std::string> ids = call.WaitForJobs();
  ASSERT_EQ(ids.size(), 2u);

  EXPECT_EQ(call.Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);

  const v1::Job first = WatchToEnd(ids[0]);
  const v1::Job second = WatchToEnd(ids[1]);
  EXPECT_EQ(first.state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(first.error().code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(first.error().reason(), "DEADLINE_PASSED");
  EXPECT_EQ(second.state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(second.error().code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  CancelJob(busy);
}

TEST_F(RpcServerTest, CancellingAnEndedJobIsNoError) {
  v1::LoadModelRequest request;
  request.set_model(kModel);
  v1::LoadModelResponse loaded;
  grpc::ClientContext load_context;
  ASSERT_TRUE(models_->LoadModel(&load_context, request, &loaded).ok());
  v1::CancelJobRequest cancel;
  cancel.set_id(loaded.job().id());
  v1::CancelJobResponse first;
  grpc::ClientContext first_context;
  ASSERT_TRUE(jobs_->CancelJob(&first_context, cancel, &first).ok());

  v1::CancelJobResponse second;
  grpc::ClientContext second_context;
  const grpc::Status status =
      jobs_->CancelJob(&second_context, cancel, &second);

  EXPECT_TRUE(status.ok());
  EXPECT_EQ(second.job().state(), first.job().state());
}

constexpr char kUnknownJob[] = "01890a5d-ac96-774b-bcce-b302099a8057";

TEST_F(RpcServerTest, UnknownJobIsNotFound) {
  v1::GetJobRequest get;
  get.set_id(kUnknownJob);
  v1::GetJobResponse got;
  grpc::ClientContext get_context;
  v1::CancelJobRequest cancel;
  cancel.set_id(kUnknownJob);
  v1::CancelJobResponse cancelled;
  grpc::ClientContext cancel_context;

  const grpc::Status get_status = jobs_->GetJob(&get_context, get, &got);
  const grpc::Status cancel_status =
      jobs_->CancelJob(&cancel_context, cancel, &cancelled);

  EXPECT_EQ(get_status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(FieldOf(get_status), "id");
  EXPECT_EQ(cancel_status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(FieldOf(cancel_status), "id");
}

TEST_F(RpcServerTest, ResultOfAnUnknownJobIsNotFoundByItsOwnField) {
  v1::ReadResultRequest request;
  request.set_job_id(kUnknownJob);
  v1::ReadResultResponse response;
  grpc::ClientContext context;

  const auto reader =
      v1::ResultService::NewStub(channel_)->ReadResult(&context, request);
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status status = reader->Finish();

  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(FieldOf(status), "job_id");
}

TEST_F(RpcServerTest, StoppedServerIsUnavailable) {
  v1::ListAnalysesRequest request;
  v1::ListAnalysesResponse response;
  grpc::ClientContext context;
  server_->Shutdown(absl::ZeroDuration());

  EXPECT_EQ(analysis_->ListAnalyses(&context, request, &response).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST_F(RpcServerTest, SecondServerOnTheSamePortIsRefusedWithTheAddress) {
  RpcServerOptions options;
  options.listen = server_->address();

  const auto second = RpcServer::Start(options, *service_, metrics_);

  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(server_->address()));
}

}  // namespace
}  // namespace moescope
