#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace moescope {

enum class MetricType { kCounter, kGauge, kHistogram };

/// One row of the table of metrics: all that is registered, documented and
/// queried by dashboards.
struct MetricDefinition {
  absl::string_view name;
  MetricType type = MetricType::kCounter;
  /// Label names, comma-separated, in the order in which values are given.
  absl::string_view labels;
  /// Base unit: "seconds", "bytes"; empty for a plain number.
  absl::string_view unit;
  absl::string_view help;
};

/// Every metric of the process, in the order in which they are documented.
absl::Span<const MetricDefinition> MetricTable();

/// Jobs of one analysis and priority, as the queue shows them.
struct QueuedJobs {
  std::string analysis;
  std::string priority;
  std::int64_t count = 0;
};

/// Running executions of one analysis.
struct RunningJobs {
  std::string analysis;
  std::int64_t count = 0;
};

/// The counters, gauges and histograms of this process. Labels take values
/// from small fixed sets (method, analysis, reason, …); a metric that has
/// reached 200 label sets files further ones under "other".
/// Threads: safe.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// The process. Versions are free text, set once at start.
  void SetBuildInfo(absl::string_view version, absl::string_view torch,
                    absl::string_view blas_core);
  void SetReady(bool ready);
  void SetDraining(bool draining);

  /// Calls. `method` is "Service/Method", `code` "OK", "NOT_FOUND", ….
  /// Each RpcStarted is followed by one RpcFinished.
  void RpcStarted(absl::string_view method);
  void RpcFinished(absl::string_view method, absl::string_view code,
                   absl::Duration took);
  /// `by`: client, deadline, server.
  void RpcCancelled(absl::string_view by);
  /// `direction`: received, sent.
  void RpcBytes(absl::string_view direction, std::int64_t bytes);

  /// Models. `state`: available, loading, ready, unloading, failed; the number
  /// of models in it.
  void SetModelsInState(absl::string_view state, std::int64_t count);
  /// `stage`: read, convert, total.
  void ModelLoadSeconds(absl::string_view stage, absl::Duration took);
  /// `kind`: weights, workspace.
  void SetModelResidentBytes(absl::string_view device, absl::string_view kind,
                             std::int64_t bytes);
  void ModelLoadFailed(absl::string_view reason);
  void ModelEvicted(absl::string_view reason);
  /// (loaded − estimated) / estimated bytes of weights, of the last load.
  void SetModelEstimateError(double ratio);
  void SetDeviceBudgetBytes(absl::string_view device, std::int64_t bytes);
  /// `kind`: allocated, reserved, free, other.
  void SetDeviceMemoryBytes(absl::string_view device, absl::string_view kind,
                            std::int64_t bytes);
  void DeviceOutOfMemory(absl::string_view device);

  /// Jobs. The queue is replaced as a whole: what is not named becomes 0.
  void SetQueue(const std::vector<QueuedJobs>& queued,
                const std::vector<RunningJobs>& running,
                absl::Duration oldest_age, absl::Duration estimated_work);
  /// `outcome`: succeeded, failed, cancelled, expired.
  void JobFinished(absl::string_view analysis, absl::string_view outcome);
  void JobWaited(absl::string_view priority, absl::Duration waited);
  void JobRan(absl::string_view analysis, absl::Duration ran);
  void JobAttempted();
  void JobLeaseLost();
  void JobsRecovered(std::int64_t count);
  void JobRejected(absl::string_view reason);
  /// From the request to cancel to the idle worker.
  void JobCancelSeconds(absl::Duration took);

  /// Cache of results. `tier`: memory, disk; `outcome`: hit, miss, join,
  /// corrupt.
  void CacheRequest(absl::string_view tier, absl::string_view outcome);
  void SetCacheBytes(absl::string_view tier, std::int64_t bytes);
  void CacheEvicted(absl::string_view tier);
  void CacheSaved(absl::Duration saved);

  /// Job store. `op`: submit, claim, commit, ….
  void StoreSeconds(absl::string_view op, absl::Duration took);
  void StoreError(absl::string_view op);
  void SetStoreUp(bool up);

  void AddTokens(std::int64_t tokens);

  /// Prometheus text format (version 0.0.4) of everything; reads the resident
  /// memory of the process anew.
  std::string Serialize();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace moescope
