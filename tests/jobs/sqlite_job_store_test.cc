#include "moescope/jobs/sqlite_job_store.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "tests/conformance/job_store_conformance.h"

namespace moescope {
namespace {

std::string NewFolder() {
  std::string path = ::testing::TempDir() + "/moescope_jobs_XXXXXX";
  return mkdtemp(path.data()) == nullptr ? std::string() : path;
}

SqliteJobStoreOptions OptionsFor(const std::string& folder) {
  SqliteJobStoreOptions options;
  options.path = folder + "/jobs.sqlite";
  return options;
}

std::unique_ptr<JobStore> OpenNew(const JobStoreLimits& limits) {
  SqliteJobStoreOptions options = OptionsFor(NewFolder());
  options.limits = limits;
  auto store = OpenSqliteJobStore(options);
  return store.ok() ? *std::move(store) : nullptr;
}

SubmitRequest Request(const std::string& key) {
  SubmitRequest request;
  request.client = "ann";
  request.analysis = "routing_trace";
  request.key = key;
  request.lane = "cpu";
  return request;
}

class SqliteJobStoreTest : public ::testing::Test {
 protected:
  const std::string folder_ = NewFolder();
  const absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
};

TEST_F(SqliteJobStoreTest, AcknowledgedJobSurvivesAndIsTakenUpAgain) {
  std::string job_id;
  const std::string copy = folder_ + "/after_kill.sqlite";
  {
    auto store = OpenSqliteJobStore(OptionsFor(folder_));
    ASSERT_TRUE(store.ok()) << store.status();
    job_id = (*store)->Submit(Request("k1"), now_)->job.id;
    ClaimRequest claim;
    claim.owner = "first-life";
    claim.lanes = {"cpu"};
    claim.lease_until = now_ + absl::Seconds(30);
    ASSERT_TRUE((*store)->Claim(claim, now_)->has_value());
    // What a kill leaves: the files as they are while the store is open.
    std::filesystem::copy_file(folder_ + "/jobs.sqlite", copy);
    std::filesystem::copy_file(folder_ + "/jobs.sqlite-wal", copy + "-wal");
  }
  SqliteJobStoreOptions options;
  options.path = copy;
  auto store = OpenSqliteJobStore(options);
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_EQ((*store)->GetJob(job_id)->state, JobState::kRunning);

  const auto requeued = (*store)->RequeueOwnedByOthers("second-life", now_);

  ASSERT_TRUE(requeued.ok());
  EXPECT_EQ(*requeued, 1);
  EXPECT_EQ((*store)->GetJob(job_id)->state, JobState::kQueued);
}

TEST_F(SqliteJobStoreTest, RefusesASchemaOfALaterProgram) {
  SqliteJobStoreOptions options = OptionsFor(folder_);
  ASSERT_TRUE(OpenSqliteJobStore(options).ok());
  // Bytes 60 to 63 of the header hold user_version, big-endian.
  std::string bytes = *ReadFile(options.path, 10'000'000);
  bytes[63] = 99;
  ASSERT_TRUE(WriteFileAtomically(options.path, bytes).ok());

  const auto refused = OpenSqliteJobStore(options);

  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetails(refused.status()).reason, "SCHEMA_TOO_NEW");
  EXPECT_THAT(std::string(refused.status().message()),
              ::testing::HasSubstr("99"));
}

TEST_F(SqliteJobStoreTest, RefusesAFileThatIsNoDatabase) {
  SqliteJobStoreOptions options = OptionsFor(folder_);
  ASSERT_TRUE(WriteFileAtomically(options.path, std::string(4096, 'x')).ok());

  const auto refused = OpenSqliteJobStore(options);

  EXPECT_EQ(refused.status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(SqliteJobStoreTest, TellsTheNotifierOfChangesOnly) {
  ChangeNotifier notifier;
  SqliteJobStoreOptions options = OptionsFor(folder_);
  options.notifier = &notifier;
  auto store = OpenSqliteJobStore(options);
  ASSERT_TRUE(store.ok());

  ASSERT_TRUE((*store)->Submit(Request("k1"), now_).ok());
  const std::int64_t after_submit = notifier.version();
  ASSERT_TRUE((*store)->Sweep(now_).ok());
  ClaimRequest other_lane;
  other_lane.lanes = {"io"};
  ASSERT_TRUE((*store)->Claim(other_lane, now_).ok());

  EXPECT_EQ(after_submit, 1);
  EXPECT_EQ(notifier.version(), 1);
}

INSTANTIATE_TEST_SUITE_P(
    Sqlite, JobStoreConformanceTest,
    ::testing::Values(JobStoreKind{"Sqlite", OpenNew}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace moescope
