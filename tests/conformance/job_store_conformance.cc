#include "tests/conformance/job_store_conformance.h"

#include <gmock/gmock.h>

#include "moescope/base/error.h"

namespace moescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ReasonOf(const absl::Status& status) {
  return GetErrorDetails(status).reason;
}

TEST_P(JobStoreConformanceTest, KeepsWhatWasSubmitted) {
  SubmitRequest request = Request("k1");
  request.deadline = now_ + absl::Minutes(5);
  request.traceparent = "00-ab-cd-01";

  const JobRecord job = Job(Submit(request).id);

  EXPECT_EQ(job.state, JobState::kQueued);
  EXPECT_EQ(job.spec, std::string("spec\0bytes", 10));
  EXPECT_EQ(job.key, "k1");
  EXPECT_EQ(job.sequence, 1);
  EXPECT_EQ(job.create_time, now_);
  EXPECT_EQ(job.deadline, now_ + absl::Minutes(5));
  EXPECT_EQ(job.caller_expires, std::nullopt);
  EXPECT_EQ(job.traceparent, "00-ab-cd-01");
}

TEST_P(JobStoreConformanceTest, RepeatedRequestGivesTheSameJob) {
  SubmitRequest request = Request("k1");
  request.request_id = "r1";
  request.request_hash = "h1";
  const JobRecord first = Submit(request);

  const auto again = store_->Submit(request, now_ + absl::Seconds(1));

  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->job.id, first.id);
  EXPECT_EQ(again->outcome, SubmitOutcome::kRepeated);
}

TEST_P(JobStoreConformanceTest, RefusesAnotherRequestUnderTheSameId) {
  SubmitRequest request = Request("k1");
  request.request_id = "r1";
  request.request_hash = "h1";
  Submit(request);
  request.request_hash = "h2";

  const auto refused = store_->Submit(request, now_);

  EXPECT_EQ(refused.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReasonOf(refused.status()), "REQUEST_ID_REUSED");
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("request_id"));
}

TEST_P(JobStoreConformanceTest, SameKeySharesOneExecution) {
  const JobRecord a = Submit(Request("k1", "ann"));
  const JobRecord b = Submit(Request("k1", "bob"));

  EXPECT_EQ(a.execution_id, b.execution_id);
  ASSERT_TRUE(Claim().has_value());
  EXPECT_FALSE(Claim().has_value());
  EXPECT_EQ(Job(a.id).state, JobState::kRunning);
  EXPECT_EQ(Job(b.id).state, JobState::kRunning);
}

TEST_P(JobStoreConformanceTest, OneCancelDoesNotHurtTheOtherJob) {
  const JobRecord a = Submit(Request("k1", "ann"));
  const JobRecord b = Submit(Request("k1", "bob"));
  const auto execution = Claim();
  ASSERT_TRUE(execution.has_value());

  ASSERT_TRUE(store_->CancelJob(a.id, absl::CancelledError("asked"), now_).ok());

  EXPECT_EQ(Job(a.id).state, JobState::kCancelled);
  EXPECT_EQ(Job(b.id).state, JobState::kRunning);
  const auto wanted = store_->Heartbeat(execution->id, execution->fence,
                                        now_ + absl::Seconds(60), std::nullopt);
  ASSERT_TRUE(wanted.ok());
  EXPECT_TRUE(*wanted);
}

TEST_P(JobStoreConformanceTest, LastCancelMakesRunningWorkUnwanted) {
  const JobRecord job = Submit(Request("k1"));
  const auto execution = Claim();
  ASSERT_TRUE(execution.has_value());
  ASSERT_TRUE(
      store_->CancelJob(job.id, absl::CancelledError("asked"), now_).ok());

  const auto wanted = store_->Commit(execution->id, execution->fence, Committed());
  const auto unwanted = store_->ListUnwanted("worker");
  const JobRecord newer = Submit(Request("k1"));

  ASSERT_TRUE(wanted.ok());
  EXPECT_FALSE(*wanted);
  ASSERT_TRUE(unwanted.ok());
  EXPECT_THAT(*unwanted, ::testing::ElementsAre(execution->id));
  EXPECT_NE(newer.execution_id, execution->id);
}

TEST_P(JobStoreConformanceTest, CancelledQueuedWorkIsNeverClaimed) {
  const JobRecord job = Submit(Request("k1"));
  ASSERT_TRUE(
      store_->CancelJob(job.id, absl::CancelledError("asked"), now_).ok());
  ASSERT_TRUE(
      store_->CancelJob(job.id, absl::CancelledError("asked"), now_).ok());

  EXPECT_FALSE(Claim().has_value());
  EXPECT_EQ(store_->GetExecution(job.execution_id)->state,
            JobState::kCancelled);
}

TEST_P(JobStoreConformanceTest, FinishEndsEveryJobAndFilesTheResult) {
  const JobRecord a = Submit(Request("k1", "ann"));
  const JobRecord b = Submit(Request("k1", "bob"));
  const auto execution = Claim();
  ASSERT_TRUE(execution.has_value());
  now_ += absl::Seconds(4);

  ASSERT_TRUE(store_->Finish(execution->id, execution->fence, absl::OkStatus(),
                             Result("k1"), now_)
                  .ok());

  EXPECT_EQ(Job(a.id).state, JobState::kSucceeded);
  EXPECT_EQ(Job(b.id).result_key, "k1");
  EXPECT_EQ(Job(b.id).real_seconds, 4);
  const auto result = store_->GetResult("k1-content");
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->key, "k1");
  EXPECT_EQ(result->digest, "d1");
  const auto cached = store_->Submit(Request("k1", "cid"), now_);
  ASSERT_TRUE(cached.ok());
  EXPECT_EQ(cached->outcome, SubmitOutcome::kCached);
  EXPECT_EQ(cached->job.state, JobState::kSucceeded);
}

TEST_P(JobStoreConformanceTest, RealSecondsAreThoseOfTheLastAttempt) {
  const JobRecord first = Submit(Request("k1", "ann"));
  const auto interrupted = Claim();
  ASSERT_TRUE(interrupted.has_value());
  now_ += absl::Seconds(50);
  ASSERT_TRUE(
      store_->Release(interrupted->id, interrupted->fence, now_).ok());
  now_ += absl::Seconds(100);
  const auto execution = Claim();
  ASSERT_TRUE(execution.has_value());
  now_ += absl::Seconds(3);
  const JobRecord joined = Submit(Request("k1", "bob"));
  now_ += absl::Seconds(4);

  ASSERT_TRUE(store_->Finish(execution->id, execution->fence, absl::OkStatus(),
                             Result("k1"), now_)
                  .ok());

  EXPECT_EQ(Job(first.id).real_seconds, 7);
  EXPECT_EQ(Job(joined.id).real_seconds, 7);
}

TEST_P(JobStoreConformanceTest, ErrorsKeepTheirDetails) {
  const JobRecord job = Submit(Request("k1"));
  const auto execution = Claim();
  ASSERT_TRUE(execution.has_value());
  ErrorDetails details;
  details.reason = "MODEL_TOO_LARGE";
  details.fields = {{"spec.model", "12:3 bytes"}};
  details.metadata["needed"] = "7";
  details.retry_after = absl::Milliseconds(1500);

  ASSERT_TRUE(
      store_->Finish(execution->id, execution->fence,
                     MakeError(absl::StatusCode::kFailedPrecondition,
                               "does not fit", details),
                     std::nullopt, now_)
          .ok());

  const absl::Status error = Job(job.id).error;
  EXPECT_EQ(Job(job.id).state, JobState::kFailed);
  EXPECT_EQ(error.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(error.message(), "does not fit");
  EXPECT_EQ(GetErrorDetails(error).reason, "MODEL_TOO_LARGE");
  EXPECT_EQ(GetErrorDetails(error).fields.at(0).description, "12:3 bytes");
  EXPECT_EQ(GetErrorDetails(error).metadata.at("needed"), "7");
  EXPECT_EQ(GetErrorDetails(error).retry_after, absl::Milliseconds(1500));
}

TEST_P(JobStoreConformanceTest, QueueIsBoundedAndAcceptedJobsAreUnharmed) {
  JobStoreLimits limits;
  limits.max_queued_jobs = 2;
  Open(limits);
  const JobRecord first = Submit(Request("k1"));
  Submit(Request("k2"));

  const auto refused = store_->Submit(Request("k3"), now_);

  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused.status()), "QUEUE_FULL");
  EXPECT_EQ(GetErrorDetails(refused.status()).retry_after, absl::Seconds(10));
  EXPECT_EQ(Job(first.id).state, JobState::kQueued);
}

TEST_P(JobStoreConformanceTest, QueueIsBoundedInEstimatedWork) {
  JobStoreLimits limits;
  limits.max_queued_work = absl::Seconds(15);
  Open(limits);
  Submit(Request("k1"));

  EXPECT_EQ(ReasonOf(store_->Submit(Request("k2"), now_).status()),
            "QUEUE_FULL");
  EXPECT_TRUE(store_->Submit(Request("k1"), now_).ok());
}

TEST_P(JobStoreConformanceTest, LapsedLeaseGoesBackAndFencesTheOldWorker) {
  const JobRecord job = Submit(Request("k1"));
  const auto first = Claim("one");
  ASSERT_TRUE(first.has_value());
  Committed committed;
  committed.records = 2;
  committed.bytes = 64;
  committed.digest = "ab";
  committed.resume_position = "at:2";
  ASSERT_TRUE(store_->Commit(first->id, first->fence, committed).ok());
  now_ += absl::Seconds(31);

  ASSERT_EQ(store_->Sweep(now_)->requeued, 1);
  EXPECT_EQ(Job(job.id).state, JobState::kQueued);
  const auto second = Claim("two");

  ASSERT_TRUE(second.has_value());
  EXPECT_GT(second->fence, first->fence);
  EXPECT_EQ(second->committed.records, 2);
  EXPECT_EQ(second->committed.fence, first->fence);
  EXPECT_EQ(second->committed.resume_position, "at:2");
  const auto late = store_->Commit(first->id, first->fence, committed);
  EXPECT_EQ(late.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(late.status()), "FENCED");
}

TEST_P(JobStoreConformanceTest, GivesUpAfterFiveAttemptsWithoutACommit) {
  const JobRecord job = Submit(Request("k1"));
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(Claim().has_value()) << i;
    now_ += absl::Seconds(31);
    ASSERT_TRUE(store_->Sweep(now_).ok());
  }

  EXPECT_EQ(Job(job.id).state, JobState::kFailed);
  EXPECT_EQ(ReasonOf(Job(job.id).error), "WORKER_LOST");
  EXPECT_FALSE(Claim().has_value());
}

TEST_P(JobStoreConformanceTest, ReleasedAttemptDoesNotCount) {
  Submit(Request("k1"));
  const auto first = Claim();
  ASSERT_TRUE(first.has_value());

  ASSERT_TRUE(store_->Release(first->id, first->fence, now_).ok());

  const auto second = Claim();
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->attempt, 1);
}

TEST_P(JobStoreConformanceTest, SweepEndsJobsByDeadlineAndByAbsentCaller) {
  SubmitRequest late = Request("k1");
  late.deadline = now_ + absl::Seconds(10);
  SubmitRequest direct = Request("k2");
  direct.caller_expires = now_ + absl::Seconds(30);
  const JobRecord a = Submit(late);
  const JobRecord b = Submit(direct);
  ASSERT_TRUE(
      store_->TouchCaller(b.id, now_ + absl::Seconds(40), now_).ok());

  ASSERT_TRUE(store_->Sweep(now_ + absl::Seconds(35)).ok());
  EXPECT_EQ(Job(a.id).error.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Job(a.id).state, JobState::kFailed);
  EXPECT_EQ(Job(b.id).state, JobState::kQueued);

  ASSERT_TRUE(store_->Sweep(now_ + absl::Seconds(40)).ok());
  EXPECT_EQ(Job(b.id).state, JobState::kCancelled);
  EXPECT_EQ(ReasonOf(Job(b.id).error), "CALLER_GONE");
}

TEST_P(JobStoreConformanceTest, ClaimTakesOnlyWhatTheWorkerServes) {
  Submit(Request("k1"));
  ClaimRequest request;
  request.lanes = {"cpu"};
  request.lease_until = now_ + absl::Seconds(30);
  request.numerics_classes = {"cuda"};
  EXPECT_FALSE(store_->Claim(request, now_)->has_value());
  request.numerics_classes = {"cpu-fp32"};
  request.analyses = {{"routing_trace", 2}};
  EXPECT_FALSE(store_->Claim(request, now_)->has_value());
  request.analyses = {{"routing_trace", 1}};
  request.lanes = {"cuda:0"};
  EXPECT_FALSE(store_->Claim(request, now_)->has_value());
  request.lanes = {"cpu"};
  EXPECT_TRUE(store_->Claim(request, now_)->has_value());
}

TEST_P(JobStoreConformanceTest, ListsNewestFirstInPages) {
  const JobRecord a = Submit(Request("k1"));
  now_ += absl::Seconds(1);
  const JobRecord b = Submit(Request("k2"));
  now_ += absl::Seconds(1);
  const JobRecord c = Submit(Request("k3", "bob"));

  const auto first = store_->ListJobs({}, 2, "");
  ASSERT_TRUE(first.ok());
  ASSERT_EQ(first->jobs.size(), 2U);
  EXPECT_EQ(first->jobs[0].id, c.id);
  EXPECT_EQ(first->jobs[1].id, b.id);
  const auto second = store_->ListJobs({}, 2, first->next_page_token);
  ASSERT_TRUE(second.ok());
  ASSERT_EQ(second->jobs.size(), 1U);
  EXPECT_EQ(second->jobs[0].id, a.id);
  EXPECT_EQ(second->next_page_token, "");
  JobFilter bobs;
  bobs.client = "bob";
  EXPECT_EQ(store_->ListJobs(bobs, 10, "")->jobs.size(), 1U);
  const auto bad = store_->ListJobs({}, 2, "nonsense");
  EXPECT_EQ(bad.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bad.status().message()), HasSubstr("page_token"));
}

TEST_P(JobStoreConformanceTest, EveryVisibleChangeRaisesTheSequence) {
  const JobRecord job = Submit(Request("k1"));
  const auto execution = Claim();
  ASSERT_TRUE(execution.has_value());
  EXPECT_EQ(Job(job.id).sequence, 2);

  ASSERT_TRUE(store_->Heartbeat(execution->id, execution->fence, now_,
                                ProgressReport{{"read", 3, 9, "tokens"},
                                               now_ + absl::Seconds(6)})
                  .ok());

  EXPECT_EQ(Job(job.id).sequence, 3);
  EXPECT_EQ(Job(job.id).progress.done, 3);
  EXPECT_EQ(Job(job.id).progress.unit, "tokens");
  EXPECT_EQ(Job(job.id).expected_end, now_ + absl::Seconds(6));
}

TEST_P(JobStoreConformanceTest, WorkThatGoesBackToTheQueueHasNoExpectedEnd) {
  const JobRecord job = Submit(Request("k1"));
  const auto execution = Claim();
  ASSERT_TRUE(execution.has_value());
  ASSERT_TRUE(store_->Heartbeat(execution->id, execution->fence, now_,
                                ProgressReport{{"read", 3, 9, "tokens"},
                                               now_ + absl::Seconds(6)})
                  .ok());

  ASSERT_TRUE(store_->Release(execution->id, execution->fence, now_).ok());

  EXPECT_EQ(Job(job.id).expected_end, std::nullopt);
  EXPECT_EQ(store_->GetExecution(execution->id)->expected_end, std::nullopt);
}

TEST_P(JobStoreConformanceTest, FindsALiveJobOfAKeyTheRunningOneFirst) {
  EXPECT_EQ(*store_->FindLiveJob("k1"), std::nullopt);
  SubmitRequest lonely = Request("k1");
  lonely.share = false;
  Submit(lonely);
  now_ += absl::Seconds(1);
  const JobRecord second = Submit(lonely);
  ASSERT_TRUE(Claim().has_value());
  const auto found = store_->FindLiveJob("k1");
  ASSERT_TRUE(found.ok() && found->has_value());
  EXPECT_EQ((*found)->state, JobState::kRunning);
  ASSERT_TRUE(
      store_->CancelJob((*found)->id, absl::CancelledError("asked"), now_)
          .ok());

  EXPECT_EQ((*store_->FindLiveJob("k1"))->id, second.id);
}

TEST_P(JobStoreConformanceTest, LiveKeysAreThoseOfJobsThatWaitOrRun) {
  Submit(Request("k1"));
  Submit(Request("k1", "bob"));
  ASSERT_TRUE(Claim().has_value());
  Submit(Request("k2"));
  const JobRecord gone = Submit(Request("k3"));
  ASSERT_TRUE(
      store_->CancelJob(gone.id, absl::CancelledError("asked"), now_).ok());

  EXPECT_THAT(*store_->LiveKeys(), ::testing::ElementsAre("k1", "k2"));
}

TEST_P(JobStoreConformanceTest, UnsharedResultsAreThoseOfUnsharedExecutions) {
  SubmitRequest alone = Request("k1");
  alone.share = false;
  Submit(alone);
  const auto first = Claim();
  Submit(Request("k2"));
  const auto second = Claim();
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_THAT(*store_->UnsharedResults(), ::testing::IsEmpty());
  ASSERT_TRUE(store_->Finish(first->id, first->fence, absl::OkStatus(),
                             Result("k1"), now_).ok());
  ASSERT_TRUE(store_->Finish(second->id, second->fence, absl::OkStatus(),
                             Result("k2"), now_).ok());

  EXPECT_THAT(*store_->UnsharedResults(), ::testing::ElementsAre("k1"));
}

TEST_P(JobStoreConformanceTest, TheQueueHasAnOrderAndRunningWorkAnEnd) {
  Submit(Request("k1"));
  const auto execution = Claim();
  ASSERT_TRUE(execution.has_value());
  now_ += absl::Seconds(1);
  const JobRecord batch = Submit(Request("k2"));
  now_ += absl::Seconds(1);
  SubmitRequest urgent = Request("k3", "bob");
  urgent.priority = Priority::kInteractive;
  const JobRecord first = Submit(urgent);

  const auto by_cost = store_->GetQueueOrder({}, now_);
  ASSERT_TRUE(store_->Heartbeat(execution->id, execution->fence, now_,
                                ProgressReport{{"read", 3, 9, "tokens"},
                                               now_ + absl::Seconds(40)})
                  .ok());
  const auto by_progress = store_->GetQueueOrder({}, now_);

  ASSERT_TRUE(by_cost.ok() && by_progress.ok());
  ASSERT_EQ(by_cost->queued.size(), 2U);
  EXPECT_EQ(by_cost->queued[0].execution_id, first.execution_id);
  EXPECT_EQ(by_cost->queued[1].execution_id, batch.execution_id);
  EXPECT_EQ(by_cost->queued[1].lane, "cpu");
  EXPECT_EQ(by_cost->queued[1].estimated_seconds, 10);
  ASSERT_EQ(by_cost->running.size(), 1U);
  EXPECT_EQ(by_cost->running[0].remaining_seconds, 8);
  EXPECT_EQ(by_progress->running[0].remaining_seconds, 40);
}

TEST_P(JobStoreConformanceTest, AResultIsFoundUnderAnAliasAddedLater) {
  EXPECT_EQ(store_->AddResultAlias("k1", "other").code(),
            absl::StatusCode::kNotFound);
  Submit(Request("k1"));
  const auto execution = Claim();
  ASSERT_TRUE(execution.has_value());
  ASSERT_TRUE(store_->Finish(execution->id, execution->fence, absl::OkStatus(),
                             Result("k1"), now_)
                  .ok());

  ASSERT_TRUE(store_->AddResultAlias("k1-content", "other").ok());

  EXPECT_EQ(store_->GetResult("other")->key, "k1");
}

TEST_P(JobStoreConformanceTest, AJobSaysThatItsResultIsGone) {
  const JobRecord job = Submit(Request("k1"));
  const auto execution = Claim();
  ASSERT_TRUE(execution.has_value());
  ASSERT_TRUE(store_->Finish(execution->id, execution->fence, absl::OkStatus(),
                             Result("k1"), now_)
                  .ok());
  const std::int64_t sequence = Job(job.id).sequence;

  ASSERT_TRUE(store_->DeleteResult("k1").ok());

  EXPECT_EQ(Job(job.id).state, JobState::kExpired);
  EXPECT_EQ(Job(job.id).sequence, sequence + 1);
}

TEST_P(JobStoreConformanceTest, OldJobsExpireAndThenAreGone) {
  const JobRecord job = Submit(Request("k1"));
  ASSERT_TRUE(
      store_->CancelJob(job.id, absl::CancelledError("asked"), now_).ok());

  ASSERT_EQ(store_->Sweep(now_ + absl::Hours(24 * 7))->expired, 1);
  EXPECT_EQ(Job(job.id).state, JobState::kExpired);
  ASSERT_TRUE(store_->Sweep(now_ + absl::Hours(24 * 14)).ok());
  EXPECT_EQ(store_->GetJob(job.id).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_P(JobStoreConformanceTest, StatsCountTheQueue) {
  Submit(Request("k1"));
  Submit(Request("k2"));
  ASSERT_TRUE(Claim().has_value());

  const auto stats = store_->GetQueueStats(now_ + absl::Seconds(5));

  ASSERT_TRUE(stats.ok());
  ASSERT_EQ(stats->queued.size(), 1U);
  EXPECT_EQ(stats->queued[0].count, 1);
  ASSERT_EQ(stats->running.size(), 1U);
  EXPECT_EQ(stats->oldest_age, absl::Seconds(5));
  EXPECT_EQ(stats->queued_work, absl::Seconds(10));
}

TEST_P(JobStoreConformanceTest, AnUnknownJobIsSaidByTheFieldOfItsId) {
  const ErrorDetails got = GetErrorDetails(store_->GetJob("none").status());
  const ErrorDetails cancelled = GetErrorDetails(
      store_->CancelJob("none", absl::CancelledError("asked"), now_).status());

  EXPECT_EQ(got.reason, "JOB_NOT_FOUND");
  EXPECT_EQ(got.fields.at(0).field, "id");
  EXPECT_EQ(cancelled.fields.at(0).field, "id");
}

TEST_P(JobStoreConformanceTest, DeletedResultIsGoneUnderEveryKey) {
  Submit(Request("k1"));
  const auto execution = Claim();
  ASSERT_TRUE(execution.has_value());
  ASSERT_TRUE(store_->Finish(execution->id, execution->fence, absl::OkStatus(),
                             Result("k1"), now_)
                  .ok());

  ASSERT_TRUE(store_->DeleteResult("k1-content").ok());

  EXPECT_EQ(store_->GetResult("k1").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->GetResult("k1-content").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace moescope
