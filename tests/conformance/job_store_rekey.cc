// Queued work that a worker of another numerics class or version takes over.
#include "tests/conformance/job_store_conformance.h"

#include <gmock/gmock.h>

#include "moescope/base/error.h"

namespace moescope {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

ClaimRequest WorkerOf(const std::string& numerics_class,
                      std::int64_t version = 1) {
  ClaimRequest request;
  request.owner = "worker";
  request.lanes = {"cpu"};
  request.numerics_classes = {numerics_class};
  request.analyses = {{"routing_trace", version}};
  return request;
}

TEST_P(JobStoreConformanceTest, WorkOfAnotherClassOrVersionIsUnserved) {
  const JobRecord job = Submit(Request("k1"));

  EXPECT_THAT(*store_->ListUnserved(WorkerOf("cpu-fp32")), IsEmpty());
  EXPECT_THAT(*store_->ListUnserved(WorkerOf("cuda-fp32")),
              ElementsAre(job.execution_id));
  EXPECT_THAT(*store_->ListUnserved(WorkerOf("cpu-fp32", 2)),
              ElementsAre(job.execution_id));
}

TEST_P(JobStoreConformanceTest, RunningWorkIsNotUnserved) {
  Submit(Request("k1"));
  ASSERT_TRUE(Claim().has_value());

  EXPECT_THAT(*store_->ListUnserved(WorkerOf("cuda-fp32")), IsEmpty());
}

TEST_P(JobStoreConformanceTest, RekeyedWorkStartsAnewUnderItsNewKey) {
  const JobRecord job = Submit(Request("k1"));
  const auto begun = Claim();
  ASSERT_TRUE(begun.has_value());
  Committed committed;
  committed.records = 2;
  committed.bytes = 64;
  committed.digest = "d";
  committed.resume_position = "1";
  ASSERT_TRUE(store_->Commit(begun->id, begun->fence, committed).ok());
  ASSERT_TRUE(store_->Release(begun->id, begun->fence, now_).ok());

  ASSERT_TRUE(store_->Rekey(begun->id, {"k2", "cuda-fp32", 3}, now_).ok());

  const auto again = Claim();
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->id, begun->id);
  EXPECT_EQ(again->key, "k2");
  EXPECT_EQ(again->numerics_class, "cuda-fp32");
  EXPECT_EQ(again->analysis_version, 3);
  EXPECT_EQ(again->committed.records, 0);
  EXPECT_EQ(again->committed.bytes, 0);
  EXPECT_EQ(again->committed.resume_position, "");
  EXPECT_EQ(Job(job.id).key, "k2");
  EXPECT_EQ(Job(job.id).analysis_version, 3);
  EXPECT_GT(Job(job.id).sequence, job.sequence);
}

TEST_P(JobStoreConformanceTest, RekeyedJobsJoinWorkThatIsUnderWay) {
  const JobRecord old = Submit(Request("k1"));
  const JobRecord there = Submit(Request("k2", "bob"));

  ASSERT_TRUE(
      store_->Rekey(old.execution_id, {"k2", "cpu-fp32", 1}, now_).ok());

  EXPECT_EQ(Job(old.id).execution_id, there.execution_id);
  EXPECT_EQ(Job(old.id).key, "k2");
  EXPECT_EQ(Job(old.id).state, JobState::kQueued);
  EXPECT_EQ(store_->GetExecution(old.execution_id)->state,
            JobState::kCancelled);
}

TEST_P(JobStoreConformanceTest, WorkThatIsNotSharedKeepsToItselfWhenRekeyed) {
  SubmitRequest own = Request("k1");
  own.share = false;
  const JobRecord old = Submit(own);
  Submit(Request("k2", "bob"));

  ASSERT_TRUE(
      store_->Rekey(old.execution_id, {"k2", "cpu-fp32", 1}, now_).ok());

  EXPECT_EQ(Job(old.id).execution_id, old.execution_id);
}

TEST_P(JobStoreConformanceTest, RunningWorkIsNotRekeyed) {
  Submit(Request("k1"));
  const auto execution = Claim();
  ASSERT_TRUE(execution.has_value());

  const absl::Status status =
      store_->Rekey(execution->id, {"k2", "cuda-fp32", 1}, now_);

  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetails(status).reason, "NOT_QUEUED");
}

}  // namespace
}  // namespace moescope
