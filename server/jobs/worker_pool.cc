#include "moescope/jobs/worker_pool.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "absl/time/clock.h"

#include "moescope/base/catch_exceptions.h"
#include "moescope/base/error.h"
#include "moescope/base/log.h"
#include "moescope/base/mutex.h"
#include "moescope/base/status_macros.h"

namespace moescope {
namespace {

absl::Status Reason(absl::StatusCode code, absl::string_view reason,
                    absl::string_view message) {
  ErrorDetails details;
  details.reason = std::string(reason);
  return MakeError(code, message, details);
}

absl::Status Unwanted() {
  return Reason(absl::StatusCode::kCancelled, "UNWANTED",
                "no job waits for this work any more");
}

bool IsFenced(const absl::Status& status) {
  return GetErrorDetails(status).reason == "FENCED";
}

// Tells from the reports of one stage when it will end.
class Pace {
 public:
  std::optional<absl::Time> ExpectedEnd(const Progress& progress,
                                        absl::Time now) {
    if (progress.stage != stage_ || progress.done < first_done_) {
      stage_ = progress.stage;
      first_done_ = progress.done;
      first_time_ = now;
    }
    const std::int64_t done = progress.done - first_done_;
    const std::int64_t left = progress.total - progress.done;
    if (done <= 0 || left < 0) {
      return std::nullopt;
    }
    return now + (now - first_time_) * (static_cast<double>(left) /
                                        static_cast<double>(done));
  }

 private:
  std::string stage_;
  std::int64_t first_done_ = 0;
  absl::Time first_time_ = absl::InfinitePast();
};

// One execution at work.
class RunningExecution final : public ExecutionControl {
 public:
  RunningExecution(const ExecutionRecord& execution,
                   const WorkerPoolOptions& options, JobStore& store,
                   Clock& clock)
      : id_(execution.id),
        fence_(execution.fence),
        options_(options),
        store_(store),
        clock_(clock),
        last_heartbeat_(clock.Now()) {
    context_.set_progress_function(
        [this](const Progress& progress) { ReportProgress(progress); });
  }

  const RunContext& context() const override { return context_; }

  absl::Status Commit(const Committed& committed) override {
    MOESCOPE_RETURN_IF_ERROR(context_.Check());
    return Obey(store_.Commit(id_, fence_, committed));
  }

  // Prolongs the lease when that is due or there is progress to show now.
  void HeartbeatIfDue() {
    {
      const MutexLock lock(mutex_);
      if (clock_.Now() - last_heartbeat_ < options_.heartbeat_interval) {
        return;
      }
    }
    Heartbeat();
  }

  void Flush() {
    {
      const MutexLock lock(mutex_);
      if (!unshown_.has_value()) {
        return;
      }
    }
    Heartbeat();
  }

  const std::string& id() const { return id_; }
  std::int64_t fence() const { return fence_; }
  CancellationToken& token() { return context_.token(); }

 private:
  void ReportProgress(const Progress& progress) {
    {
      const MutexLock lock(mutex_);
      const absl::Time now = clock_.Now();
      unshown_ = ProgressReport{progress, pace_.ExpectedEnd(progress, now)};
      if (now - last_shown_ < options_.progress_interval) {
        return;
      }
      last_shown_ = now;
    }
    Heartbeat();
  }

  void Heartbeat() {
    std::optional<ProgressReport> report;
    const absl::Time now = clock_.Now();
    {
      const MutexLock lock(mutex_);
      report.swap(unshown_);
      last_heartbeat_ = now;
    }
    // A failure of the store is the store's to report; the lease may last
    // until it is back.
    (void)Obey(store_.Heartbeat(id_, fence_, now + options_.lease, report));
  }

  absl::Status Obey(const absl::StatusOr<bool>& wanted) {
    if (!wanted.ok()) {
      if (IsFenced(wanted.status())) {
        token().Cancel(wanted.status());
      }
      return wanted.status();
    }
    if (!*wanted) {
      token().Cancel(Unwanted());
    }
    return context_.Check();
  }

  const std::string id_;
  const std::int64_t fence_;
  const WorkerPoolOptions& options_;
  JobStore& store_;
  Clock& clock_;
  RunContext context_;
  Mutex mutex_;
  Pace pace_ ABSL_GUARDED_BY(mutex_);
  std::optional<ProgressReport> unshown_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_shown_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Time last_heartbeat_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

struct WorkerPool::State {
  State(WorkerPoolOptions options_in, JobStore& store_in,
        Executor& executor_in, ChangeNotifier& notifier_in, Clock& clock_in,
        Metrics& metrics_in)
      : options(std::move(options_in)),
        store(store_in),
        executor(executor_in),
        notifier(notifier_in),
        clock(clock_in),
        metrics(metrics_in) {}

  bool Claiming() {
    const MutexLock lock(mutex);
    return !draining;
  }

  void Work(const std::string& lane) {
    ClaimRequest request;
    request.owner = options.owner;
    request.lanes = {lane};
    request.numerics_classes = options.numerics_classes;
    request.analyses = options.analyses;
    // The version is read first: a drain that begins later ends the wait.
    for (std::int64_t seen = notifier.version(); Claiming();
         seen = notifier.version()) {
      if (options.warm) {
        request.warm = options.warm();
      }
      const absl::Time now = clock.Now();
      request.lease_until = now + options.lease;
      const auto claimed = store.Claim(request, now);
      if (claimed.ok() && claimed->has_value()) {
        RunOne(**claimed);
      } else {
        notifier.WaitFor(seen, options.poll_interval);
      }
    }
  }

  void RunOne(const ExecutionRecord& execution) {
    const auto control = std::make_shared<RunningExecution>(
        execution, options, store, clock);
    {
      const MutexLock lock(mutex);
      running.push_back(control);
      if (cutting) {
        control->token().Cancel(Draining());
      }
    }
    absl::StatusOr<std::optional<ResultRow>> result = std::nullopt;
    const absl::Status thrown = CatchExceptions([&] {
      result = executor.Execute(execution, *control);
      return absl::OkStatus();
    });
    if (!thrown.ok()) {
      result = thrown;
    }
    control->Flush();
    if (End(*control, result)) {
      executor.Forget(execution);
    }
    {
      const MutexLock lock(mutex);
      running.erase(std::find(running.begin(), running.end(), control));
    }
    idle.NotifyAll();
  }

  // Whether the execution has ended for good.
  bool End(RunningExecution& control,
           const absl::StatusOr<std::optional<ResultRow>>& result) {
    const std::string reason =
        GetErrorDetails(control.token().status()).reason;
    absl::Status ended;
    if (result.ok()) {
      ended = store.Finish(control.id(), control.fence(), absl::OkStatus(),
                           *result, clock.Now());
    } else if (reason == "FENCED") {
      ended = control.token().status();
    } else if (reason == "DRAINING") {
      ended = store.Release(control.id(), control.fence(), clock.Now());
    } else {
      ended = store.Finish(control.id(), control.fence(), result.status(),
                           std::nullopt, clock.Now());
    }
    if (!ended.ok()) {
      // The lease runs out and the work is taken up again.
      Log(LogLevel::kWarning, "execution_not_ended",
          {{"execution", control.id()}, {"error", ended.ToString()}});
      return false;
    }
    return result.ok() || reason != "DRAINING";
  }

  static absl::Status Draining() {
    return Reason(absl::StatusCode::kUnavailable, "DRAINING",
                  "the server is going down; the work goes on elsewhere");
  }

  std::vector<std::shared_ptr<RunningExecution>> Running() {
    const MutexLock lock(mutex);
    return running;
  }

  void Keep() {
    absl::Time last_sweep = absl::InfinitePast();
    while (true) {
      const std::int64_t seen = notifier.version();
      {
        const MutexLock lock(mutex);
        if (stopping) {
          return;
        }
      }
      CancelUnwanted();
      for (const auto& control : Running()) {
        control->HeartbeatIfDue();
      }
      const absl::Time now = clock.Now();
      if (now - last_sweep >= options.sweep_interval) {
        last_sweep = now;
        Tidy(now);
      }
      notifier.WaitFor(seen, options.poll_interval);
    }
  }

  void CancelUnwanted() {
    const auto at_work = Running();
    if (at_work.empty()) {
      return;
    }
    const auto unwanted = store.ListUnwanted(options.owner);
    if (!unwanted.ok()) {
      return;
    }
    for (const auto& control : at_work) {
      if (std::find(unwanted->begin(), unwanted->end(), control->id()) !=
          unwanted->end()) {
        control->token().Cancel(Unwanted());
      }
    }
  }

  void Tidy(absl::Time now) {
    // A failure is reported by the store; the next round tries again.
    (void)store.Sweep(now);
    if (const auto stats = store.GetQueueStats(now); stats.ok()) {
      PublishQueueStats(*stats, metrics);
    }
  }

  const WorkerPoolOptions options;
  JobStore& store;
  Executor& executor;
  ChangeNotifier& notifier;
  Clock& clock;
  Metrics& metrics;

  Mutex mutex;
  CondVar idle;
  bool draining ABSL_GUARDED_BY(mutex) = false;
  bool cutting ABSL_GUARDED_BY(mutex) = false;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  std::vector<std::shared_ptr<RunningExecution>> running
      ABSL_GUARDED_BY(mutex);
  std::vector<std::thread> workers ABSL_GUARDED_BY(mutex);
  std::thread keeper ABSL_GUARDED_BY(mutex);
};

WorkerPool::WorkerPool(WorkerPoolOptions options, JobStore& store,
                       Executor& executor, ChangeNotifier& notifier,
                       Clock& clock, Metrics& metrics)
    : state_(std::make_unique<State>(std::move(options), store, executor,
                                     notifier, clock, metrics)) {}

WorkerPool::~WorkerPool() { Stop(); }

void WorkerPool::Start() {
  State* const state = state_.get();
  const MutexLock lock(state->mutex);
  for (const auto& [lane, count] : state->options.lanes) {
    for (int i = 0; i < count; ++i) {
      state->workers.emplace_back(
          [state, name = lane] { state->Work(name); });
    }
  }
  state->keeper = std::thread([state] { state->Keep(); });
}

void WorkerPool::Drain(absl::Duration grace) {
  std::vector<std::thread> workers;
  {
    const MutexLock lock(state_->mutex);
    state_->draining = true;
    workers.swap(state_->workers);
  }
  state_->notifier.Notify();
  {
    const absl::Time end = absl::Now() + std::min(grace, absl::Hours(24));
    const MutexLock lock(state_->mutex);
    while (!state_->running.empty() && absl::Now() < end) {
      state_->idle.WaitFor(state_->mutex, end - absl::Now());
    }
    state_->cutting = true;
    for (const auto& control : state_->running) {
      control->token().Cancel(State::Draining());
    }
  }
  for (std::thread& worker : workers) {
    worker.join();
  }
}

void WorkerPool::Stop() {
  Drain(absl::ZeroDuration());
  std::thread keeper;
  {
    const MutexLock lock(state_->mutex);
    state_->stopping = true;
    keeper.swap(state_->keeper);
  }
  state_->notifier.Notify();
  if (keeper.joinable()) {
    keeper.join();
  }
}

int WorkerPool::running() const {
  return static_cast<int>(state_->Running().size());
}

void PublishQueueStats(const QueueStats& stats, Metrics& metrics) {
  std::vector<QueuedJobs> queued;
  for (const QueueStats::Queued& entry : stats.queued) {
    queued.push_back({entry.analysis,
                      std::string(PriorityName(entry.priority)), entry.count});
  }
  std::vector<RunningJobs> running;
  for (const QueueStats::Running& entry : stats.running) {
    running.push_back({entry.analysis, entry.count});
  }
  metrics.SetQueue(queued, running, stats.oldest_age, stats.queued_work);
}

}  // namespace moescope
