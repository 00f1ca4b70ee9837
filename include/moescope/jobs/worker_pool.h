#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "moescope/base/clock.h"
#include "moescope/base/run_context.h"
#include "moescope/jobs/change_notifier.h"
#include "moescope/jobs/job.h"
#include "moescope/jobs/job_store.h"
#include "moescope/telemetry/metrics.h"

namespace moescope {

/// What an executor may ask of the pool while it works. Threads: safe.
class ExecutionControl {
 public:
  virtual ~ExecutionControl() = default;
  /// Cancelled when the work is unwanted, fenced or has to make room for the
  /// end of the process. Progress reported here reaches the jobs, at most
  /// twice a second.
  virtual const RunContext& context() const = 0;
  /// Records what is durable. Errors: whatever cancelled the context; then
  /// stop.
  virtual absl::Status Commit(const Committed& committed) = 0;
};

/// Does the work of an execution. Threads: Execute is called from several
/// threads at once.
class Executor {
 public:
  virtual ~Executor() = default;
  /// Returns the result to file, nothing for work that leaves none, or the
  /// error that every job of the execution ends with. On a cancelled context:
  /// its status, soon.
  virtual absl::StatusOr<std::optional<ResultRow>> Execute(
      const ExecutionRecord& execution, ExecutionControl& control) = 0;
  /// The end of `execution`, good or bad, is recorded: nobody will go on with
  /// it, and what was kept for that may go.
  virtual void Forget(const ExecutionRecord& execution) = 0;
};

struct WorkerPoolOptions {
  /// Names this process in leases: a new one for every start.
  std::string owner;
  /// How many executions at once, by lane.
  std::map<std::string, int> lanes;
  /// See ClaimRequest; empty: whatever there is.
  std::vector<std::string> numerics_classes;
  std::vector<AnalysisVersion> analyses;
  /// What is loaded now (ClaimRequest::warm); may be empty.
  std::function<std::vector<std::string>()> warm;
  absl::Duration lease = absl::Seconds(30);
  absl::Duration heartbeat_interval = absl::Seconds(5);
  /// Between looks at the store without a hint (real time).
  absl::Duration poll_interval = absl::Seconds(1);
  /// Between two Sweeps.
  absl::Duration sweep_interval = absl::Seconds(1);
  absl::Duration progress_interval = absl::Milliseconds(500);
};

/// Threads that claim executions and have them done; one more prolongs leases,
/// cancels what is unwanted, sweeps the store and publishes the queue's
/// metrics. Owns nothing that it is given.
/// Threads: safe.
class WorkerPool {
 public:
  /// Everything passed by reference outlives the pool; `notifier` is the one
  /// that `store` tells of changes.
  WorkerPool(WorkerPoolOptions options, JobStore& store, Executor& executor,
             ChangeNotifier& notifier, Clock& clock, Metrics& metrics);
  /// Stops.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void Start();
  /// Claims nothing any more, gives what runs `grace` (real time) to end, then
  /// cancels it with UNAVAILABLE and hands it back to the queue. Returns when
  /// all is idle.
  void Drain(absl::Duration grace);
  /// Drain without grace, and joins the threads. May be repeated.
  void Stop();
  /// Executions at work now.
  int running() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Shows `stats` as metrics.
void PublishQueueStats(const QueueStats& stats, Metrics& metrics);

}  // namespace moescope
