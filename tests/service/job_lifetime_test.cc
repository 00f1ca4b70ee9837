// How long jobs and results live, and for whom; on a clock that stands still.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "moescope/base/error.h"
#include "moescope/results/result_store.h"
#include "moescope/service/service.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/scratch_folder.h"

namespace moescope {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kBound = absl::Seconds(30);

class JobLifetimeTest : public ::testing::Test {
 protected:
  JobLifetimeTest() { Start(); }

  void Start() {
    service_.reset();
    ServiceOptions options;
    options.model_root = MOESCOPE_SOURCE_DIR "/tests/testdata/models";
    options.data_dir = folder_.path();
    options.device = "cpu";
    options.workers = 1;
    auto service = Service::Create(options, clock_, metrics_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
  }

  // Distinct `first` tokens make distinct questions.
  static AnalysisRequest Activations(std::int64_t tokens,
                                     std::int32_t first = 3) {
    spec::ActivationStatisticsSpec spec;
    spec.model = "tiny-mixtral";
    spec.block_tokens = 256;
    spec.input.ids.assign(static_cast<std::size_t>(tokens), 7);
    spec.input.ids.front() = first;
    spec.input.lengths.assign(static_cast<std::size_t>(tokens / 128), 128);
    AnalysisRequest request;
    request.client = "test";
    request.spec = spec;
    request.priority = Priority::kBatch;
    return request;
  }
  static AnalysisRequest Similarity() {
    spec::ExpertSimilaritySpec spec;
    spec.model = "tiny-mixtral";
    AnalysisRequest request;
    request.client = "test";
    request.spec = spec;
    return request;
  }

  JobRecord Submit(const AnalysisRequest& request) {
    auto submitted = service_->Submit(request);
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    return submitted.ok() ? submitted->job : JobRecord();
  }
  // The job as soon as `wanted` holds of it.
  template <class Wanted>
  JobRecord WaitUntil(const std::string& id, Wanted wanted) {
    const absl::Time end = absl::Now() + kBound;
    JobRecord job;
    while (absl::Now() < end) {
      job = service_->GetJob(id).value_or(JobRecord());
      if (wanted(job)) {
        return job;
      }
      absl::SleepFor(absl::Milliseconds(5));
    }
    ADD_FAILURE() << "job " << id << " is still " << JobStateName(job.state);
    return job;
  }
  JobRecord Ended(const std::string& id) {
    return WaitUntil(
        id, [](const JobRecord& job) { return IsFinished(job.state); });
  }

  // Keeps the only worker busy until it is cancelled.
  JobRecord OccupyWorker() {
    return WaitUntil(Submit(Activations(1 << 19)).id, [](const JobRecord& job) {
      return job.state == JobState::kRunning;
    });
  }

  // Saves for `key`, under the first fence that there is, a state that no
  // analysis takes: who goes on from it fails.
  void SaveState(const std::string& key) {
    ResultStore::Options options;
    options.dir = folder_ / "results";
    const auto results = ResultStore::Open(options, clock_);
    ASSERT_TRUE(results.ok()) << results.status();
    ASSERT_TRUE((*results)->SaveState(key, 1, 0, "of another kind").ok());
  }

  // How the stream ends; OK: with all its chunks.
  static absl::Status ReadAll(ResultStream& stream) {
    for (;;) {
      const auto chunk = stream.Next(RunContext());
      if (!chunk.ok() || !chunk->has_value()) {
        return chunk.status();
      }
    }
  }

  const ScratchFolder folder_;
  FakeClock clock_;
  Metrics metrics_;
  std::unique_ptr<Service> service_;
};

TEST_F(JobLifetimeTest, AConnectedCallerKeepsItsJobWithoutReading) {
  OccupyWorker();
  const auto stream = service_->Run(Similarity());
  ASSERT_TRUE(stream.ok()) << stream.status();
  const std::string id = (*stream)->job_id();
  const absl::Time expires = *service_->GetJob(id)->caller_expires;

  clock_.Advance(absl::Seconds(20));

  const JobRecord job = WaitUntil(id, [&](const JobRecord& now) {
    return now.caller_expires > expires;
  });
  EXPECT_EQ(job.caller_expires, expires + absl::Seconds(20));
}

TEST_F(JobLifetimeTest, ALostCallerHasHalfAMinuteToComeBack) {
  OccupyWorker();
  auto lost = service_->Run(Similarity());
  ASSERT_TRUE(lost.ok()) << lost.status();
  const std::string id = (*lost)->job_id();
  lost->reset();
  const JobRecord waiting = *service_->GetJob(id);

  const auto back = service_->ReadJobResult(id, 0);

  EXPECT_EQ(waiting.state, JobState::kQueued);
  EXPECT_EQ(waiting.caller_expires, clock_.Now() + absl::Seconds(30));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(service_->GetJob(id)->caller_expires,
            clock_.Now() + absl::Minutes(2));
}

TEST_F(JobLifetimeTest, ACallerWithTwoConnectionsMayLoseOne) {
  OccupyWorker();
  auto first = service_->Run(Similarity());
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string id = (*first)->job_id();
  const auto second = service_->ReadJobResult(id, 0);
  ASSERT_TRUE(second.ok()) << second.status();

  first->reset();

  EXPECT_EQ(service_->GetJob(id)->caller_expires,
            clock_.Now() + absl::Minutes(2));
}

TEST_F(JobLifetimeTest, AReaderOfAResultIsNotCutByTheCancelOfOneOfItsJobs) {
  const JobRecord busy = OccupyWorker();
  const JobRecord a = Submit(Activations(1024));
  const JobRecord b = Submit(Activations(1024));
  ASSERT_EQ(a.execution_id, b.execution_id);
  const auto stream = service_->ReadResult(a.key, 0);
  ASSERT_TRUE(stream.ok()) << stream.status();

  ASSERT_TRUE(service_->CancelJob(a.id).ok());
  ASSERT_TRUE(service_->CancelJob(busy.id).ok());

  EXPECT_TRUE(ReadAll(**stream).ok());
  EXPECT_EQ(service_->GetJob(b.id)->state, JobState::kSucceeded);
}

TEST_F(JobLifetimeTest, AReaderOfAResultEndsWithTheCancelOfItsLastJob) {
  OccupyWorker();
  const JobRecord a = Submit(Activations(1024));
  const auto stream = service_->ReadResult(a.key, 0);
  ASSERT_TRUE(stream.ok()) << stream.status();

  ASSERT_TRUE(service_->CancelJob(a.id).ok());

  EXPECT_EQ(ReadAll(**stream).code(), absl::StatusCode::kCancelled);
}

TEST_F(JobLifetimeTest, RefreshGoesOnFromNothingThatOtherWorkHasSaved) {
  AnalysisRequest request = Activations(1024);
  ASSERT_EQ(Ended(Submit(request).id).state, JobState::kSucceeded);
  const auto prepared = service_->Prepare(request);
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  SaveState(prepared->key);
  request.cache_policy = CachePolicy::kRefresh;

  const JobRecord anew = Ended(Submit(request).id);

  EXPECT_EQ(anew.state, JobState::kSucceeded) << anew.error;
  EXPECT_EQ(anew.key, prepared->key);
}

TEST_F(JobLifetimeTest, InterruptedWorkGoesOnFromItsOwnState) {
  const JobRecord job = Submit(Activations(1 << 19));
  const std::string saved =
      folder_ / "results/running/" + job.key + ".1.state";
  // The second time it is saved, the first is in the job's row.
  std::optional<std::filesystem::file_time_type> first;
  WaitUntil(job.id, [&](const JobRecord&) {
    std::error_code missing;
    const auto time = std::filesystem::last_write_time(saved, missing);
    if (!missing && !first.has_value()) {
      first = time;
    }
    return first.has_value() && !missing && time != *first;
  });
  service_.reset();
  SaveState(job.key);

  Start();

  const JobRecord resumed = Ended(job.id);
  EXPECT_EQ(resumed.state, JobState::kFailed);
  EXPECT_THAT(resumed.error.ToString(), HasSubstr("state"));
}

TEST_F(JobLifetimeTest, ARequestIdStandsForAllThatWasAsked) {
  AnalysisRequest request = Similarity();
  request.request_id = "once";
  request.deadline = clock_.Now() + absl::Hours(1);
  const JobRecord first = Submit(request);
  AnalysisRequest priority = request;
  priority.priority = Priority::kBatch;
  AnalysisRequest deadline = request;
  deadline.deadline = clock_.Now() + absl::Hours(2);
  AnalysisRequest no_deadline = request;
  no_deadline.deadline.reset();
  AnalysisRequest load_policy = request;
  load_policy.load_policy = LoadPolicy::kNever;
  AnalysisRequest cache_policy = request;
  cache_policy.cache_policy = CachePolicy::kRefresh;

  EXPECT_EQ(Submit(request).id, first.id);
  EXPECT_EQ(GetErrorDetails(service_->Submit(priority).status()).reason,
            "REQUEST_ID_REUSED");
  EXPECT_EQ(GetErrorDetails(service_->Submit(deadline).status()).reason,
            "REQUEST_ID_REUSED");
  EXPECT_EQ(GetErrorDetails(service_->Submit(no_deadline).status()).reason,
            "REQUEST_ID_REUSED");
  EXPECT_EQ(GetErrorDetails(service_->Submit(load_policy).status()).reason,
            "REQUEST_ID_REUSED");
  EXPECT_EQ(GetErrorDetails(service_->Submit(cache_policy).status()).reason,
            "REQUEST_ID_REUSED");
}

TEST_F(JobLifetimeTest, ARequestIdOfAModelJobCoversItsPriority) {
  ModelJobRequest request;
  request.model = "tiny-mixtral";
  request.client = "test";
  request.request_id = "once";
  const auto first = service_->LoadModel(request);
  ASSERT_TRUE(first.ok()) << first.status();
  ModelJobRequest other = request;
  other.priority = Priority::kBatch;

  EXPECT_EQ(service_->LoadModel(request)->id, first->id);
  EXPECT_EQ(GetErrorDetails(service_->LoadModel(other).status()).reason,
            "REQUEST_ID_REUSED");
}

}  // namespace
}  // namespace moescope
