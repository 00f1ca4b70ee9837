#include "client/lib/client.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"

#include "moescope/base/mutex.h"
#include "moescope/v1/analysis.grpc.pb.h"
#include "moescope/v1/job.grpc.pb.h"
#include "moescope/v1/result.grpc.pb.h"

namespace moescope::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// A chunk in one slice: the count `value` under its name.
v1::ResultSlice Slice(std::int64_t number, const std::string& name) {
  v1::ResultSlice slice;
  slice.set_chunk(number);
  v1::ArraySlice& array = *slice.add_arrays();
  array.set_name(name);
  array.set_dtype(v1::DATA_TYPE_INT64);
  array.set_data(std::string(8, '\0'));
  slice.set_last_of_chunk(true);
  return slice;
}

using FakeAnalysisBase =
    v1::AnalysisService::WithStreamedUnaryMethod_ComputeNeuronStatistics<
        v1::AnalysisService::Service>;

// Streams chunk 0 and then loses the connection, or waits for its caller to
// leave.
class FakeAnalysis final : public FakeAnalysisBase {
 public:
  // Tells its two jobs and never answers.
  grpc::Status StreamedComputeNeuronStatistics(
      grpc::ServerContext* context,
      grpc::ServerUnaryStreamer<v1::ComputeNeuronStatisticsRequest,
                                v1::ComputeNeuronStatisticsResponse>* streamer)
      override {
    v1::ComputeNeuronStatisticsRequest request;
    streamer->Read(&request);
    context->AddInitialMetadata("moescope-job-id", "job-1");
    context->AddInitialMetadata("moescope-job-id", "job-2");
    streamer->SendInitialMetadata();
    while (!context->IsCancelled()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return grpc::Status::CANCELLED;
  }
  grpc::Status TraceRouting(
      grpc::ServerContext* context, const v1::TraceRoutingRequest* request,
      grpc::ServerWriter<v1::TraceRoutingResponse>* writer) override {
    context->AddInitialMetadata("moescope-job-id", "job-1");
    writer->SendInitialMetadata();
    if (request->spec().model() == "endless") {
      while (!context->IsCancelled()) {
        v1::TraceRoutingResponse nothing;
        writer->Write(nothing);
      }
      return grpc::Status::CANCELLED;
    }
    v1::TraceRoutingResponse response;
    *response.mutable_slice() = Slice(0, "a");
    writer->Write(response);
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "lost");
  }
};

class FakeResults final : public v1::ResultService::Service {
 public:
  grpc::Status ReadResult(
      grpc::ServerContext* context, const v1::ReadResultRequest* request,
      grpc::ServerWriter<v1::ReadResultResponse>* writer) override {
    v1::ReadResultResponse response;
    if (request->job_id() == "endless") {
      context->AddInitialMetadata("moescope-job-id", "endless");
      while (!context->IsCancelled()) {
        writer->Write(response);
      }
      return grpc::Status::CANCELLED;
    }
    *response.mutable_slice() = Slice(request->first_chunk(), "b");
    writer->Write(response);
    response.mutable_result()->set_name("of " + request->job_id());
    writer->Write(response);
    return grpc::Status::OK;
  }
};

class FakeJobs final : public v1::JobService::Service {
 public:
  grpc::Status CancelJob(grpc::ServerContext*,
                         const v1::CancelJobRequest* request,
                         v1::CancelJobResponse*) override {
    const MutexLock lock(mutex_);
    cancelled_.push_back(request->id());
    return grpc::Status::OK;
  }
  // Never answers.
  grpc::Status GetJob(grpc::ServerContext* context, const v1::GetJobRequest*,
                      v1::GetJobResponse*) override {
    return WaitUntilLeft(context);
  }
  grpc::Status WatchJob(
      grpc::ServerContext* context, const v1::WatchJobRequest* request,
      grpc::ServerWriter<v1::WatchJobResponse>* writer) override {
    if (request->id() == "quiet") {
      return WaitUntilLeft(context);
    }
    v1::WatchJobResponse response;
    const bool again = request->after_sequence() == 1;
    response.mutable_job()->set_sequence(again ? 2 : 1);
    response.mutable_job()->set_state(again ? v1::JOB_STATE_SUCCEEDED
                                            : v1::JOB_STATE_RUNNING);
    writer->Write(response);
    return again ? grpc::Status::OK
                 : grpc::Status(grpc::StatusCode::UNAVAILABLE, "lost");
  }
  std::vector<std::string> cancelled() {
    const MutexLock lock(mutex_);
    return cancelled_;
  }

 private:
  static grpc::Status WaitUntilLeft(grpc::ServerContext* context) {
    while (!context->IsCancelled()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return grpc::Status::CANCELLED;
  }

  Mutex mutex_;
  std::vector<std::string> cancelled_ ABSL_GUARDED_BY(mutex_);
};

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() {
    int port = 0;
    server_ = grpc::ServerBuilder()
                  .AddListeningPort("127.0.0.1:0",
                                    grpc::InsecureServerCredentials(), &port)
                  .RegisterService(&analysis_)
                  .RegisterService(&results_)
                  .RegisterService(&jobs_)
                  .BuildAndStart();
    options_.address = "127.0.0.1:" + std::to_string(port);
    options_.deadline = absl::Seconds(20);
    options_.poll_interval = absl::Milliseconds(5);
  }
  ~ClientTest() override { server_->Shutdown(); }

  FakeAnalysis analysis_;
  FakeResults results_;
  FakeJobs jobs_;
  std::unique_ptr<grpc::Server> server_;
  ClientOptions options_;
};

TEST_F(ClientTest, GoesOnAtTheNextChunkAfterALostStream) {
  Client client(options_);
  std::vector<std::string> names;

  const auto result =
      client.TraceRouting(v1::TraceRoutingRequest(), [&](spec::Chunk chunk) {
        names.push_back(chunk.arrays.at(0).name);
        return absl::OkStatus();
      });

  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->name(), "of job-1");
  EXPECT_THAT(names, ElementsAre("a", "b"));
}

TEST_F(ClientTest, AnInterruptionCancelsTheJobOnTheServer) {
  options_.interrupted = [] { return true; };
  Client client(options_);
  v1::TraceRoutingRequest request;
  request.mutable_spec()->set_model("endless");

  const auto result = client.TraceRouting(
      request, [](const spec::Chunk&) { return absl::OkStatus(); });

  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(jobs_.cancelled(), ElementsAre("job-1"));
}

TEST_F(ClientTest, AnInterruptionCancelsBothJobsOfAUnaryCall) {
  options_.interrupted = [] { return true; };
  Client client(options_);

  const auto response =
      client.ComputeNeuronStatistics(v1::ComputeNeuronStatisticsRequest());

  EXPECT_EQ(response.status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(jobs_.cancelled(), UnorderedElementsAre("job-1", "job-2"));
}

// Looks that an interrupted call takes; one that waits for the id of a job
// takes 200 of them.
constexpr int kFewLooks = 100;

TEST_F(ClientTest, AnInterruptedWatchEndsAtOnceAndLeavesTheJobAlone) {
  int looks = 0;
  options_.interrupted = [&looks] { return ++looks > 0; };
  Client client(options_);

  const auto job = client.WatchJob("quiet", false, [](const v1::Job&) {});

  EXPECT_EQ(job.status().code(), absl::StatusCode::kCancelled);
  EXPECT_LT(looks, kFewLooks);
  EXPECT_THAT(jobs_.cancelled(), IsEmpty());
}

TEST_F(ClientTest, AnInterruptedReadLeavesTheJobAlone) {
  options_.interrupted = [] { return true; };
  Client client(options_);
  v1::ReadResultRequest source;
  source.set_job_id("endless");

  const auto result = client.ReadResult(
      source, [](const spec::Chunk&) { return absl::OkStatus(); });

  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(jobs_.cancelled(), IsEmpty());
}

TEST_F(ClientTest, AnInterruptedCallWithoutAJobEndsAtOnce) {
  int looks = 0;
  options_.interrupted = [&looks] { return ++looks > 0; };
  Client client(options_);

  const auto job = client.GetJob("quiet");

  EXPECT_EQ(job.status().code(), absl::StatusCode::kCancelled);
  EXPECT_LT(looks, kFewLooks);
}

TEST_F(ClientTest, WatchesOnAfterALostStream) {
  Client client(options_);
  std::vector<std::int64_t> seen;

  const auto job = client.WatchJob("job-1", false, [&](const v1::Job& now) {
    seen.push_back(now.sequence());
  });

  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_THAT(seen, ElementsAre(1, 2));
}

TEST_F(ClientTest, SaysThatTheServerIsNotReachable) {
  options_.address = "127.0.0.1:1";
  Client client(options_);

  const auto info = client.GetServerInfo();

  EXPECT_EQ(info.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(info.status().message()),
              HasSubstr("server not reachable at 127.0.0.1:1: "));
}

}  // namespace
}  // namespace moescope::client
