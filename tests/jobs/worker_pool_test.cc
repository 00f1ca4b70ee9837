#include "moescope/jobs/worker_pool.h"

#include <cstdlib>
#include <functional>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include "absl/time/clock.h"

#include "moescope/base/error.h"
#include "moescope/base/mutex.h"
#include "moescope/jobs/sqlite_job_store.h"
#include "tests/testing/fake_clock.h"

namespace moescope {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr absl::Duration kBound = absl::Seconds(30);

// An executor whose work ends when the test says so or the pool cancels it.
class PuppetExecutor final : public Executor {
 public:
  absl::StatusOr<std::optional<ResultRow>> Execute(
      const ExecutionRecord& execution, ExecutionControl& control) override {
    {
      const MutexLock lock(mutex_);
      ++started_;
      changed_.NotifyAll();
    }
    control.context().ReportProgress({"work", 1, 2, "units"});
    if (on_start_) {
      on_start_(control.context());
    }
    const absl::Time end = absl::Now() + kBound;
    const MutexLock lock(mutex_);
    while (!released_ && control.context().Check().ok() && absl::Now() < end) {
      changed_.WaitFor(mutex_, absl::Milliseconds(5));
    }
    if (absl::Status status = control.context().Check(); !status.ok()) {
      return status;
    }
    ResultRow result;
    result.key = execution.key;
    return std::make_optional(result);
  }
  void Forget(const ExecutionRecord& execution) override {
    const MutexLock lock(mutex_);
    forgotten_.push_back(execution.key);
  }
  std::vector<std::string> forgotten() {
    const MutexLock lock(mutex_);
    return forgotten_;
  }
  // What else happens when work starts; set before the pool starts.
  void OnStart(std::function<void(const RunContext&)> on_start) {
    on_start_ = std::move(on_start);
  }
  void Release() {
    const MutexLock lock(mutex_);
    released_ = true;
    changed_.NotifyAll();
  }
  bool WaitForStart(int count) {
    const absl::Time end = absl::Now() + kBound;
    const MutexLock lock(mutex_);
    while (started_ < count && absl::Now() < end) {
      changed_.WaitFor(mutex_, end - absl::Now());
    }
    return started_ >= count;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int started_ ABSL_GUARDED_BY(mutex_) = 0;
  bool released_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::string> forgotten_ ABSL_GUARDED_BY(mutex_);
  std::function<void(const RunContext&)> on_start_;
};

class WorkerPoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder = ::testing::TempDir() + "/moescope_pool_XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    SqliteJobStoreOptions options;
    options.path = folder + "/jobs.sqlite";
    options.notifier = &notifier_;
    auto store = OpenSqliteJobStore(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    WorkerPoolOptions pool;
    pool.owner = "me";
    pool.lanes = {{"cpu", 2}};
    pool_ = std::make_unique<WorkerPool>(pool, *store_, executor_, notifier_,
                                         clock_, metrics_);
  }

  std::string Submit(const std::string& key) {
    SubmitRequest request;
    request.client = "ann";
    request.analysis = "routing_trace";
    request.key = key;
    request.lane = "cpu";
    return store_->Submit(request, clock_.Now())->job.id;
  }
  JobRecord Job(const std::string& id) { return *store_->GetJob(id); }
  JobState WaitForState(const std::string& id, JobState state) {
    const absl::Time end = absl::Now() + kBound;
    std::int64_t seen = notifier_.version();
    JobState now = Job(id).state;
    while (now != state && absl::Now() < end) {
      seen = notifier_.WaitFor(seen, absl::Milliseconds(50));
      now = Job(id).state;
    }
    return now;
  }
  // Waits until no execution is at work.
  bool WaitForIdle() {
    const absl::Time end = absl::Now() + kBound;
    while (pool_->running() > 0 && absl::Now() < end) {
      notifier_.WaitFor(notifier_.version(), absl::Milliseconds(5));
    }
    return pool_->running() == 0;
  }

  FakeClock clock_;
  ChangeNotifier notifier_;
  Metrics metrics_;
  PuppetExecutor executor_;
  std::unique_ptr<JobStore> store_;
  std::unique_ptr<WorkerPool> pool_;
};

TEST_F(WorkerPoolTest, FinishesWhatWasSubmitted) {
  executor_.Release();
  pool_->Start();

  const std::string id = Submit("k1");

  EXPECT_EQ(WaitForState(id, JobState::kSucceeded), JobState::kSucceeded);
  EXPECT_EQ(Job(id).result_key, "k1");
  EXPECT_EQ(Job(id).progress.stage, "work");
  EXPECT_TRUE(WaitForIdle());
  EXPECT_THAT(executor_.forgotten(), ElementsAre("k1"));
}

TEST_F(WorkerPoolTest, AnExceptionFailsTheJobAndNotTheServer) {
  executor_.OnStart([](const RunContext&) { throw std::bad_alloc(); });
  pool_->Start();

  const std::string id = Submit("k1");

  EXPECT_EQ(WaitForState(id, JobState::kFailed), JobState::kFailed);
  EXPECT_EQ(Job(id).error.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(WorkerPoolTest, CancelReachesTheWorkerWithoutWaitingForAHeartbeat) {
  pool_->Start();
  const std::string id = Submit("k1");
  ASSERT_TRUE(executor_.WaitForStart(1));

  ASSERT_TRUE(
      store_->CancelJob(id, absl::CancelledError("asked"), clock_.Now()).ok());

  EXPECT_TRUE(WaitForIdle());
  EXPECT_EQ(store_->GetExecution(Job(id).execution_id)->state,
            JobState::kCancelled);
}

TEST_F(WorkerPoolTest, DrainHandsRunningWorkBackToTheQueue) {
  pool_->Start();
  const std::string id = Submit("k1");
  ASSERT_TRUE(executor_.WaitForStart(1));

  pool_->Drain(absl::ZeroDuration());

  EXPECT_EQ(pool_->running(), 0);
  EXPECT_EQ(Job(id).state, JobState::kQueued);
  EXPECT_EQ(store_->GetExecution(Job(id).execution_id)->attempt, 0);
  EXPECT_THAT(executor_.forgotten(), IsEmpty());
}

TEST_F(WorkerPoolTest, DrainLetsWorkEndWithinItsGrace) {
  pool_->Start();
  const std::string id = Submit("k1");
  ASSERT_TRUE(executor_.WaitForStart(1));
  executor_.Release();

  pool_->Drain(kBound);

  EXPECT_EQ(Job(id).state, JobState::kSucceeded);
}

TEST_F(WorkerPoolTest, ThePaceOfTheWorkGivesItsExpectedEnd) {
  executor_.OnStart([this](const RunContext& context) {
    context.ReportProgress({"next", 100, 500, "units"});
    clock_.Advance(absl::Seconds(20));
    context.ReportProgress({"next", 200, 500, "units"});
  });
  pool_->Start();
  const std::string id = Submit("k1");
  ASSERT_TRUE(executor_.WaitForStart(1));

  const absl::Time end = absl::Now() + kBound;
  while (!Job(id).expected_end.has_value() && absl::Now() < end) {
    notifier_.WaitFor(notifier_.version(), absl::Milliseconds(5));
  }

  EXPECT_EQ(Job(id).expected_end, clock_.Now() + absl::Seconds(60));
}

TEST_F(WorkerPoolTest, RunsAsManyAtOnceAsTheLaneHasPlaces) {
  pool_->Start();
  Submit("k1");
  Submit("k2");
  const std::string third = Submit("k3");

  ASSERT_TRUE(executor_.WaitForStart(2));

  EXPECT_EQ(pool_->running(), 2);
  executor_.Release();
  EXPECT_EQ(WaitForState(third, JobState::kSucceeded), JobState::kSucceeded);
}

TEST_F(WorkerPoolTest, ProlongsTheLeaseWhenAHeartbeatIsDue) {
  pool_->Start();
  const std::string id = Submit("k1");
  ASSERT_TRUE(executor_.WaitForStart(1));
  const std::string execution = Job(id).execution_id;
  clock_.Advance(absl::Seconds(10));
  const absl::Time due = clock_.Now() + absl::Seconds(30);
  notifier_.Notify();

  const absl::Time end = absl::Now() + kBound;
  while (store_->GetExecution(execution)->lease_until < due &&
         absl::Now() < end) {
    notifier_.WaitFor(notifier_.version(), absl::Milliseconds(5));
  }

  EXPECT_EQ(store_->GetExecution(execution)->lease_until, due);
  EXPECT_EQ(Job(id).state, JobState::kRunning);
}

}  // namespace
}  // namespace moescope
