#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

#include "moescope/analysis/catalogue.h"
#include "moescope/base/clock.h"
#include "moescope/base/mutex.h"
#include "moescope/base/thread_pool.h"
#include "moescope/jobs/change_notifier.h"
#include "moescope/jobs/job_store.h"
#include "moescope/jobs/worker_pool.h"
#include "moescope/model/checkpoint.h"
#include "moescope/model/identity_store.h"
#include "moescope/registry/model_registry.h"
#include "moescope/results/result_store.h"
#include "moescope/service/service.h"
#include "moescope/telemetry/metrics.h"
#include "server/service/caller_leases_internal.h"

namespace moescope {

/// Name of the job that makes a model resident; no analysis has it.
inline constexpr absl::string_view kLoadModelJob = "load_model";
/// The job that reads a model's weights again.
inline constexpr absl::string_view kVerifyModelJob = "verify_model";
/// Where weights are read from files, and the name of its memory.
inline constexpr absl::string_view kHostDevice = "cpu";
/// Lanes of the worker pool.
inline constexpr absl::string_view kComputeLane = "compute";
inline constexpr absl::string_view kLoadLane = "io";
/// Apart from loads: who waits for a model does not wait for all of another's
/// bytes to be read again.
inline constexpr absl::string_view kVerifyLane = "verify";

/// Takes `<data_dir>/lock` for this process, for as long as it lives.
class DataDirLock {
 public:
  /// Errors: FAILED_PRECONDITION DATA_DIR_IN_USE.
  static absl::StatusOr<std::unique_ptr<DataDirLock>> Take(
      const std::string& data_dir);
  ~DataDirLock();
  DataDirLock(const DataDirLock&) = delete;
  DataDirLock& operator=(const DataDirLock&) = delete;

 private:
  explicit DataDirLock(int fd) : fd_(fd) {}
  const int fd_;
};

/// What the use cases share. Members are destroyed in the reverse order: the
/// workers first.
struct Service::State {
  State(ServiceOptions options_in, Clock& clock_in, Metrics& metrics_in)
      : options(std::move(options_in)), clock(clock_in), metrics(metrics_in) {}
  ~State();

  const ServiceOptions options;
  Clock& clock;
  Metrics& metrics;
  const absl::Time start_time = clock.Now();
  std::string device;
  std::string numerics_class;
  std::int64_t memory_budget_bytes = 0;
  std::unique_ptr<DataDirLock> lock;
  std::unique_ptr<ThreadPool> pool;
  ChangeNotifier notifier;
  std::unique_ptr<JobStore> store;
  std::unique_ptr<ResultStore> results;
  std::unique_ptr<model::IdentityStore> identities;
  std::unique_ptr<ModelRegistry> registry;
  std::atomic<std::int64_t> cache_joins{0};
  std::atomic<std::int64_t> cache_misses{0};
  std::atomic<std::int64_t> cache_memory_hits{0};
  std::atomic<std::int64_t> cache_disk_hits{0};
  std::atomic<std::int64_t> cache_saved_us{0};
  std::atomic<bool> draining{false};
  ConnectedCallers callers;

  Mutex publish_mutex;
  std::int64_t published_evictions ABSL_GUARDED_BY(publish_mutex) = 0;

  mutable Mutex gemm_mutex;
  std::optional<double> gemm_gflops ABSL_GUARDED_BY(gemm_mutex);

  std::unique_ptr<Executor> executor;
  std::unique_ptr<WorkerPool> workers;

  CancellationToken maintenance_stop;
  std::thread maintenance;
};

/// Bytes that models and work on `device` may take, of `total_bytes` (nullopt:
/// nobody knows). Errors: INVALID_ARGUMENT field "memory_budget".
absl::StatusOr<std::int64_t> ChooseMemoryBudget(
    const ServiceOptions& options, const std::string& device,
    std::optional<std::int64_t> total_bytes);

/// The work of an execution: analyses and model loads.
std::unique_ptr<Executor> MakeExecutor(Service::State& state);

/// Tokenises `input` for `model` into ids and lengths.
absl::StatusOr<spec::TokenInput> TokeniseDocuments(
    const model::Checkpoint& checkpoint, const spec::DocumentInput& input);

/// Of the models that a Spec names, its own first.
using Checkpoints = std::vector<std::shared_ptr<const model::Checkpoint>>;
absl::StatusOr<Checkpoints> OpenCheckpoints(Service::State& state,
                                            const spec::AnalysisSpec& spec);
/// DATA_LOSS CONTENT_CHANGED, naming model and file, when one of their files is
/// known to be damaged.
absl::Status CheckUndamaged(const Service::State& state,
                            const spec::AnalysisSpec& spec,
                            const Checkpoints& checkpoints);
/// Also DATA_LOSS FILE_CHANGED when what was read of them is not to be trusted.
absl::Status CheckIntact(const Service::State& state,
                         const spec::AnalysisSpec& spec,
                         const Checkpoints& checkpoints);

/// What a run of a normalised Spec will take here.
analysis::CostEstimate EstimateCost(const Service::State& state,
                                    const spec::AnalysisSpec& spec,
                                    const Checkpoints& checkpoints);

/// Their identities, as well as they are known now.
std::vector<std::string> ModelIdentities(const Service::State& state,
                                         const Checkpoints& checkpoints);

/// The keys under which the answer to a normalised Spec may be filed: first by
/// the identities as known now, then by those that stood in for them before the
/// weights were read.
std::vector<std::string> PossibleKeys(const Service::State& state,
                                      const spec::AnalysisSpec& spec,
                                      const Checkpoints& checkpoints);
/// The same, in the same order, for an answer of another numerics class.
std::vector<std::string> PossibleKeys(const Service::State& state,
                                      const spec::AnalysisSpec& spec,
                                      const Checkpoints& checkpoints,
                                      const std::string& numerics_class);

/// A key of its own for an answer that nobody else is to find; still tells
/// which question it belongs to.
std::string BypassKey(absl::string_view key);
/// Whether `key` is `of`, or a BypassKey of it.
bool IsKeyOf(absl::string_view key, absl::string_view of);

/// Makes queued work that `own` does not serve, left by another version of the
/// program or on another processor, this server's own: it gets the key of what
/// is computed here and starts anew. Returns how much there was.
absl::StatusOr<std::int64_t> TakeOverQueue(Service::State& state,
                                           const ClaimRequest& own);

/// UNAVAILABLE DRAINING when the server takes no work any more.
absl::Status RefuseWhileDraining(const Service::State& state);

/// The row of a finished result as an extent of its log.
LogExtent ExtentOf(const ResultRow& row);

/// Forgets a result whose bytes are damaged or gone, so that it is computed
/// again.
void ForgetResult(Service::State& state, absl::string_view key);

/// Removes leftovers and keeps the disk limit, once a minute; see
/// maintenance.cc.
void RunMaintenance(Service::State& state);

}  // namespace moescope
