#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "moescope/spec/array.h"
#include "moescope/v1/admin.pb.h"
#include "moescope/v1/analysis.pb.h"
#include "moescope/v1/job.pb.h"
#include "moescope/v1/model.pb.h"
#include "moescope/v1/result.pb.h"

namespace moescope::client {

struct ClientOptions {
  /// "host:port".
  std::string address = "127.0.0.1:50051";
  /// For each call.
  absl::Duration deadline = absl::InfiniteDuration();
  /// Asked while a call waits, every `poll_interval`. True: the job that the
  /// call has started, if it has, is cancelled on the server, and the call ends
  /// with CANCELLED.
  std::function<bool()> interrupted;
  /// Told how far the job of the call in progress has come, from
  /// `progress_after` on, at most twice a second.
  std::function<void(const v1::Job&)> on_progress;
  absl::Duration poll_interval = absl::Milliseconds(50);
  absl::Duration progress_after = absl::Seconds(1);
};

/// A connection to a moescope server: one method per call, pages put together,
/// streams gone on with after a lost connection.
/// Errors: those of the call, with ErrorDetails; UNAVAILABLE "server not
/// reachable at ADDRESS: ..." without a connection; CANCELLED when interrupted;
/// DATA_LOSS for a stream that contradicts itself.
/// Threads: one at a time.
class Client {
 public:
  /// Takes the chunks of a result in order.
  using ChunkSink = std::function<absl::Status(spec::Chunk)>;

  explicit Client(ClientOptions options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  absl::StatusOr<v1::ListModelsResponse> ListModels();
  absl::StatusOr<v1::GetModelResponse> GetModel(const std::string& model);
  absl::StatusOr<v1::LoadModelResponse> LoadModel(const std::string& model);
  absl::StatusOr<v1::VerifyModelResponse> VerifyModel(const std::string& model);
  absl::StatusOr<v1::UnloadModelResponse> UnloadModel(const std::string& model);
  absl::StatusOr<v1::EstimateModelResponse> EstimateModel(
      const std::string& model);
  absl::StatusOr<v1::TokenizeResponse> Tokenize(
      const v1::TokenizeRequest& request);

  /// Streams the chunks into `sink`; gives the result's header.
  absl::StatusOr<v1::Result> TraceRouting(
      const v1::TraceRoutingRequest& request, const ChunkSink& sink);
  absl::StatusOr<v1::ComputeExpertSimilarityResponse> ComputeExpertSimilarity(
      const v1::ComputeExpertSimilarityRequest& request);
  absl::StatusOr<v1::ComputeNeuronStatisticsResponse> ComputeNeuronStatistics(
      const v1::ComputeNeuronStatisticsRequest& request);
  absl::StatusOr<v1::SubmitAnalysisResponse> SubmitAnalysis(
      const v1::SubmitAnalysisRequest& request);
  absl::StatusOr<v1::ListAnalysesResponse> ListAnalyses();

  absl::StatusOr<v1::Job> GetJob(const std::string& id);
  /// Those that pass the filters of `request`, on all pages.
  absl::StatusOr<v1::ListJobsResponse> ListJobs(v1::ListJobsRequest request);
  absl::StatusOr<v1::Job> CancelJob(const std::string& id);
  /// Hands every change to `on_change` until the job has ended; gives it as it
  /// ended. With `cancel_on_interrupt`, an interruption cancels the job.
  absl::StatusOr<v1::Job> WatchJob(
      const std::string& id, bool cancel_on_interrupt,
      const std::function<void(const v1::Job&)>& on_change);

  absl::StatusOr<v1::GetResultResponse> GetResult(const std::string& name);
  /// Streams the chunks of the result named in `source`, or of its job, into
  /// `sink`; gives its header. An interruption leaves the job alone.
  absl::StatusOr<v1::Result> ReadResult(const v1::ReadResultRequest& source,
                                        const ChunkSink& sink);

  absl::StatusOr<v1::GetServerInfoResponse> GetServerInfo();
  absl::StatusOr<v1::GetCacheStatsResponse> GetCacheStats();

 private:
  class Connection;
  std::unique_ptr<Connection> connection_;
};

/// Whether a job in `state` will not change any more.
bool HasEnded(v1::JobState state);

/// The error of a job that has ended without success, with its details; OK for
/// one that succeeded.
absl::Status JobStatus(const v1::Job& job);

}  // namespace moescope::client
