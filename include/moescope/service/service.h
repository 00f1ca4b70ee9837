#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "moescope/base/clock.h"
#include "moescope/base/run_context.h"
#include "moescope/jobs/job.h"
#include "moescope/jobs/job_store.h"
#include "moescope/service/result_stream.h"
#include "moescope/service/views.h"
#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/document_input.h"
#include "moescope/spec/schema.h"
#include "moescope/telemetry/metrics.h"

namespace moescope {
namespace model {
class Checkpoint;
}

enum class CachePolicy { kUse, kRefresh, kOnly, kBypass };
enum class LoadPolicy { kOnDemand, kNever };

/// An analysis as a client asks for it.
struct AnalysisRequest {
  std::string client;
  spec::AnalysisSpec spec;
  /// Tokenised into the Spec's input when it holds documents.
  spec::DocumentInput input;
  CachePolicy cache_policy = CachePolicy::kUse;
  LoadPolicy load_policy = LoadPolicy::kOnDemand;
  Priority priority = Priority::kInteractive;
  std::string request_id;
  std::optional<absl::Time> deadline;
  std::string traceparent;
};

/// A request after every check, before any work.
struct PreparedAnalysis {
  spec::AnalysisSpec spec;  ///< Normalised.
  std::string spec_json;
  std::string key;
  std::vector<std::string> identities;
  /// Of the models that the Spec names, its own first.
  std::vector<std::shared_ptr<const model::Checkpoint>> checkpoints;
  bool cached = false;  ///< Whether the answer is there now.
  /// The answer that Prepare found; nullopt: it found none.
  std::optional<ResultRow> answer;
};

/// A job about one model as a client asks for it.
struct ModelJobRequest {
  std::string model;
  std::string client;
  std::string request_id;
  Priority priority = Priority::kInteractive;
  std::string traceparent;
};

struct SubmittedAnalysis {
  JobRecord job;
  PreparedAnalysis prepared;
  CostView cost;
};

/// Whether a model fits an analysis.
struct FitView {
  std::string model;
  absl::Status status;  ///< OK: fits.
};

struct ServiceOptions {
  std::string model_root;
  std::string data_dir;
  std::string device = "auto";  ///< "auto", "cpu", "cuda:0".
  std::int64_t memory_budget_bytes = 0;  ///< 0: a share of the device's memory.
  double memory_budget_share = 0.8;      ///< The rest: the system's, page cache.
  std::int64_t cache_memory_bytes = std::int64_t{256} << 20;
  std::int64_t cache_disk_bytes = std::int64_t{20} << 30;
  int threads = 0;  ///< Compute threads; 0: one per core.
  int workers = 2;  ///< Executions at once.
  std::int64_t max_queued_jobs = 1000;
  std::int64_t max_tokens = std::int64_t{1} << 20;
  std::string version;  ///< Of the program.
};

/// Everything the server can do, without RPC: the use cases where registry,
/// results, jobs, analysis and codec meet. One per process.
/// Threads: safe.
class Service {
 public:
  /// Everything inside; only the implementation knows it.
  struct State;

  /// Opens the data folder, takes up the queue as it was left, starts the
  /// workers. `clock` and `metrics` outlive the service.
  /// Errors: INVALID_ARGUMENT (field named like the flag), NOT_FOUND (model
  /// root), FAILED_PRECONDITION (data folder in use by another server, newer
  /// schema), DATA_LOSS.
  static absl::StatusOr<std::unique_ptr<Service>> Create(ServiceOptions options,
                                                         Clock& clock,
                                                         Metrics& metrics);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  // --- Models. Errors: as ModelRegistry of the same names. -----------------
  /// Of all models, rising; opens none.
  absl::StatusOr<std::vector<std::string>> ListModelNames();
  /// Those of `names` that are still there, in their order; opens no other.
  absl::StatusOr<std::vector<ModelView>> DescribeModels(
      const std::vector<std::string>& names);
  absl::StatusOr<ModelView> GetModel(absl::string_view name);
  /// A job that makes the model resident.
  /// Errors also: FAILED_PRECONDITION MODEL_TOO_LARGE, UNAVAILABLE DRAINING.
  absl::StatusOr<JobRecord> LoadModel(ModelJobRequest request);
  /// A job that reads the model's weights again and holds them against what is
  /// known of them; it fails with DATA_LOSS CONTENT_CHANGED.
  absl::StatusOr<JobRecord> VerifyModel(ModelJobRequest request);
  absl::Status UnloadModel(absl::string_view name);
  absl::StatusOr<EstimateView> EstimateModel(absl::string_view name);
  /// Errors: UNIMPLEMENTED (the tokenizer can't be read: why),
  /// FAILED_PRECONDITION (none), INVALID_ARGUMENT field "text".
  absl::StatusOr<TokenizeView> Tokenize(absl::string_view model,
                                        absl::string_view text,
                                        bool special_tokens = true);
  /// Pieces of ids, for display. Errors: OUT_OF_RANGE field "tokens.ids[i]".
  absl::StatusOr<TokenizeView> Detokenize(
      absl::string_view model, const std::vector<std::int32_t>& ids);

  // --- Analyses. -----------------------------------------------------------
  const std::vector<spec::AnalysisInfo>& ListAnalyses() const;
  /// Which models under the root fit `analysis`.
  absl::StatusOr<std::vector<FitView>> ListFits(absl::string_view analysis);
  /// Tokenises, normalises and checks; does no work.
  /// Errors: as spec::Normalise and the models' own.
  absl::StatusOr<PreparedAnalysis> Prepare(const AnalysisRequest& request);
  /// What computing it takes. Looks at which weights are in the page cache, a
  /// quarter of a millisecond that an answer from the cache goes without.
  CostView EstimateCost(const PreparedAnalysis& prepared) const;
  /// Leaves a durable job. Errors: as Prepare and JobStore::Submit; NOT_FOUND
  /// RESULT_NOT_CACHED (policy kOnly); FAILED_PRECONDITION MODEL_NOT_LOADED
  /// (policy kNever).
  absl::StatusOr<SubmittedAnalysis> Submit(AnalysisRequest request);
  /// A direct call: the answer from the cache, or a job that lives as long as
  /// the stream.
  absl::StatusOr<std::unique_ptr<ResultStream>> Run(
      const AnalysisRequest& request);
  /// The same of a request that Prepare has just made `prepared` of.
  absl::StatusOr<std::unique_ptr<ResultStream>> Run(
      const AnalysisRequest& request, const PreparedAnalysis& prepared);

  // --- Jobs and results. ---------------------------------------------------
  absl::StatusOr<JobRecord> GetJob(absl::string_view id);
  absl::StatusOr<JobPage> ListJobs(const JobFilter& filter,
                                   std::int64_t page_size,
                                   absl::string_view page_token);
  /// Of all that waits.
  absl::StatusOr<QueuePlaces> GetQueuePlaces();
  absl::StatusOr<JobRecord> CancelJob(absl::string_view id);
  /// Waits until the job's sequence exceeds `after_sequence` or `timeout` has
  /// passed; returns the record as it is then.
  absl::StatusOr<JobRecord> WatchJob(absl::string_view id,
                                     std::int64_t after_sequence,
                                     absl::Duration timeout,
                                     const RunContext& context);
  absl::StatusOr<ResultView> GetResult(absl::string_view name);
  /// Reads a finished result, or follows the execution that makes it.
  absl::StatusOr<std::unique_ptr<ResultStream>> ReadResult(
      absl::string_view name, std::int64_t first_chunk);
  /// The same by job.
  absl::StatusOr<std::unique_ptr<ResultStream>> ReadJobResult(
      absl::string_view job_id, std::int64_t first_chunk);

  // --- The server. ---------------------------------------------------------
  absl::StatusOr<ServerView> GetServerInfo();
  CacheView GetCacheStats();
  /// Puts what is measured by asking (models, cache) into the metrics.
  void PublishMetrics();
  /// Nothing new is claimed; running work is cut after `grace` and kept for the
  /// next start.
  void Drain(absl::Duration grace);

 private:
  explicit Service(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace moescope
