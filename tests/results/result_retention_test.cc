#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/mutex.h"
#include "moescope/results/result_store.h"
#include "tests/results/result_files.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/scratch_folder.h"

namespace moescope {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class ResultRetentionTest : public ::testing::Test {
 protected:
  ResultRetentionTest() { options_.dir = folder_.path(); }

  void Open() { store_ = *ResultStore::Open(options_, clock_); }
  /// A sealed log of 100 bytes, used now.
  LogExtent Seal100(char digit) {
    auto writer = std::move(store_->StartLog(Key(digit), 1)->writer);
    EXPECT_TRUE(writer->Append("twelve bytes").ok());
    const LogExtent extent = *store_->Seal(std::move(writer));
    EXPECT_EQ(extent.bytes, 100);
    clock_.Advance(absl::Minutes(2));
    return extent;
  }
  bool Exists(const std::string& name) const {
    return std::filesystem::exists(folder_.path() + "/" + name);
  }

  ScratchFolder folder_;
  FakeClock clock_;
  ResultStore::Options options_;
  std::unique_ptr<ResultStore> store_;
};

TEST_F(ResultRetentionTest, EvictsLeastRecentlyUsedFirst) {
  options_.disk_bytes = 200;
  Open();
  const LogExtent a = Seal100('a');
  Seal100('b');
  Seal100('c');
  Seal100('d');
  ASSERT_TRUE(store_->OpenSealed(Key('a'), a).ok());

  const EvictionReport report = *store_->Evict({});

  EXPECT_THAT(report.dropped, ElementsAre(Key('b'), Key('c')));
  EXPECT_EQ(report.dropped_bytes, 200);
  EXPECT_EQ(report.bytes_over_limit, 0);
  EXPECT_EQ(store_->stats().disk_evictions, 2);
  EXPECT_EQ(store_->stats().disk_bytes, 200);
  EXPECT_FALSE(Exists("sealed/" + Key('b') + ".log"));
}

TEST_F(ResultRetentionTest, TheOrderOfUseSurvivesARestart) {
  options_.disk_bytes = 200;
  Open();
  const LogExtent a = Seal100('a');
  Seal100('b');
  Seal100('c');
  ASSERT_TRUE(store_->OpenSealed(Key('a'), a).ok());
  Open();
  EXPECT_THAT(store_->Evict({})->dropped, ElementsAre(Key('b')));
}

TEST_F(ResultRetentionTest, NothingGoesWhileThereIsRoom) {
  options_.disk_bytes = 200;
  Open();
  Seal100('a');
  Seal100('b');
  EXPECT_THAT(store_->Evict({})->dropped, IsEmpty());
  EXPECT_THAT(store_->Evict({}, 1)->dropped, ElementsAre(Key('a')));
}

TEST_F(ResultRetentionTest, PinnedLogsStayAndTheReportSaysThatTheyAreTooMany) {
  options_.disk_bytes = 150;
  Open();
  Seal100('a');
  Seal100('b');
  Seal100('c');

  const EvictionReport report = *store_->Evict({Key('a'), Key('b')});

  EXPECT_THAT(report.dropped, ElementsAre(Key('c')));
  EXPECT_EQ(report.bytes_over_limit, 50);
  EXPECT_TRUE(store_->HasSealed(Key('a')));
}

TEST_F(ResultRetentionTest, ALogWithAnOpenReaderStays) {
  options_.disk_bytes = 0;
  Open();
  const LogExtent extent = Seal100('a');
  auto reader = *store_->OpenSealed(Key('a'), extent);
  EXPECT_THAT(store_->Evict({})->dropped, IsEmpty());
  reader.reset();
  EXPECT_THAT(store_->Evict({})->dropped, ElementsAre(Key('a')));
}

TEST_F(ResultRetentionTest, APassingLogGoesOnceItHasBeenReadForAWhile) {
  Open();
  const LogExtent read = Seal100('a');
  Seal100('b');
  const LogExtent kept = Seal100('c');
  const std::set<std::string> passing = {Key('a'), Key('b')};
  auto reader = *store_->OpenSealed(Key('a'), read);
  ASSERT_TRUE(store_->OpenSealed(Key('c'), kept).ok());

  clock_.Advance(absl::Minutes(9));
  EXPECT_THAT(store_->Evict({}, 0, passing)->dropped, IsEmpty());
  clock_.Advance(absl::Minutes(2));
  EXPECT_THAT(store_->Evict({}, 0, passing)->dropped, IsEmpty());
  reader.reset();
  EXPECT_THAT(store_->Evict({}, 0, passing)->dropped, ElementsAre(Key('a')));
}

TEST_F(ResultRetentionTest, LogsThatNobodyUsesAgeOut) {
  options_.max_age = absl::Hours(1);
  Open();
  const LogExtent a = Seal100('a');
  Seal100('b');
  clock_.Advance(absl::Minutes(50));
  ASSERT_TRUE(store_->OpenSealed(Key('a'), a).ok());
  clock_.Advance(absl::Minutes(20));
  EXPECT_THAT(store_->Evict({})->dropped, ElementsAre(Key('b')));
}

TEST_F(ResultRetentionTest, RemovesWhatExecutionsLeftThatAreNoMore) {
  Open();
  auto live = std::move(store_->StartLog(Key('a'), 1)->writer);
  auto dead = std::move(store_->StartLog(Key('b'), 1)->writer);
  ASSERT_TRUE(store_->SaveState(Key('b'), 1, 0, "state").ok());
  std::ofstream(folder_.path() + "/running/" + Key('b') + ".1.state.77.tmp");
  std::ofstream(folder_.path() + "/running/README");

  ASSERT_TRUE(store_->RemoveStale({Key('a')}, absl::UnixEpoch()).ok());
  EXPECT_TRUE(Exists("running/" + Key('b') + ".1.log"));
  ASSERT_TRUE(store_->RemoveStale({Key('a')}).ok());

  EXPECT_TRUE(Exists("running/" + Key('a') + ".1.log"));
  EXPECT_FALSE(Exists("running/" + Key('b') + ".1.log"));
  EXPECT_FALSE(Exists("running/" + Key('b') + ".1.state"));
  EXPECT_FALSE(Exists("running/" + Key('b') + ".1.state.77.tmp"));
  EXPECT_TRUE(Exists("running/README"));
}

TEST_F(ResultRetentionTest, DiscardsWhatAFinishedExecutionLeft) {
  Open();
  auto first = std::move(store_->StartLog(Key('a'), 1)->writer);
  ASSERT_TRUE(store_->SaveState(Key('a'), 1, 0, "state").ok());
  auto third = std::move(store_->StartLog(Key('a'), 3)->writer);
  auto other = std::move(store_->StartLog(Key('b'), 1)->writer);

  ASSERT_TRUE(store_->DiscardRunning(Key('a'), 2).ok());

  EXPECT_FALSE(Exists("running/" + Key('a') + ".1.log"));
  EXPECT_FALSE(Exists("running/" + Key('a') + ".1.state"));
  EXPECT_TRUE(Exists("running/" + Key('a') + ".3.log"));
  EXPECT_TRUE(Exists("running/" + Key('b') + ".1.log"));
}

/// What the row of a running execution holds, as another thread sees it.
struct Row {
  Mutex mutex;
  CondVar changed;
  LogExtent extent;
  bool finished = false;
};

constexpr std::int64_t kRecords = 50;

void Write(ResultStore& store, Row& row) {
  auto writer = std::move(store.StartLog(Key('a'), 1)->writer);
  for (std::int64_t i = 0; i < kRecords; ++i) {
    EXPECT_TRUE(writer->Append("record " + std::to_string(i)).ok());
    const LogExtent extent = *writer->Commit();
    const MutexLock lock(row.mutex);
    row.extent = extent;
    row.changed.NotifyAll();
  }
  EXPECT_TRUE(store.Seal(std::move(writer)).ok());
  const MutexLock lock(row.mutex);
  row.finished = true;
  row.changed.NotifyAll();
}

void Follow(ResultStore& store, Row& row) {
  const auto reader = *store.OpenRunning(Key('a'), 1, LogExtent());
  std::int64_t seen = 0;
  while (seen < kRecords) {
    LogExtent extent;
    {
      const MutexLock lock(row.mutex);
      while (row.extent.records <= seen) {
        row.changed.Wait(row.mutex);
      }
      extent = row.extent;
    }
    ASSERT_TRUE(reader->ExtendTo(extent).ok());
    for (; seen < extent.records; ++seen) {
      const auto next = reader->Next();
      ASSERT_TRUE(next.ok()) << next.status();
      ASSERT_EQ(std::string(**next), "record " + std::to_string(seen));
    }
  }
}

void ReadWhenFinished(ResultStore& store, Row& row) {
  LogExtent extent;
  {
    const MutexLock lock(row.mutex);
    while (!row.finished) {
      row.changed.Wait(row.mutex);
    }
    extent = row.extent;
  }
  for (int i = 0; i < 20; ++i) {
    const auto reader = store.OpenSealed(Key('a'), extent, kRecords - 1);
    ASSERT_TRUE(reader.ok()) << reader.status();
    ASSERT_EQ(std::string(**(*reader)->Next()), "record 49");
  }
}

TEST_F(ResultRetentionTest, ManyReadWhileOneWrites) {
  // Too little for the log: it is read from the disk every time.
  options_.memory_bytes = 1;
  Open();
  Row row;
  std::vector<std::thread> threads;
  threads.emplace_back([&] { Write(*store_, row); });
  threads.emplace_back([&] { Follow(*store_, row); });
  threads.emplace_back([&] { Follow(*store_, row); });
  threads.emplace_back([&] { ReadWhenFinished(*store_, row); });
  threads.emplace_back([&] { ReadWhenFinished(*store_, row); });
  threads.emplace_back([&] {
    for (int i = 0; i < 20; ++i) {
      EXPECT_TRUE(store_->Evict({}).ok());
      EXPECT_TRUE(store_->RemoveStale({Key('a')}).ok());
      EXPECT_GE(store_->stats().disk_entries, 0);
    }
  });
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(store_->stats().disk_hits + store_->stats().memory_hits, 40);
}

}  // namespace
}  // namespace moescope
