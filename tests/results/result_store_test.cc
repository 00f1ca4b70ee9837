#include "moescope/results/result_store.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "tests/results/result_files.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/scratch_folder.h"

namespace moescope {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class ResultStoreTest : public ::testing::Test {
 protected:
  ResultStoreTest() {
    options_.dir = folder_.path();
    Reopen();
  }

  void Reopen() { store_ = *ResultStore::Open(options_, clock_); }

  LogExtent SealOne(const std::string& key, const std::string& payload) {
    auto writer = std::move(store_->StartLog(key, 1)->writer);
    EXPECT_TRUE(writer->Append(payload).ok());
    return *store_->Seal(std::move(writer));
  }
  std::vector<std::string> Read(LogReader& reader) {
    std::vector<std::string> payloads;
    for (;;) {
      const auto next = reader.Next();
      EXPECT_TRUE(next.ok()) << next.status();
      if (!next.ok() || !next->has_value()) {
        return payloads;
      }
      payloads.emplace_back(**next);
    }
  }
  std::vector<std::string> ReadSealed(const std::string& key,
                                      const LogExtent& extent) {
    const auto reader = store_->OpenSealed(key, extent);
    EXPECT_TRUE(reader.ok()) << reader.status();
    return reader.ok() ? Read(**reader) : std::vector<std::string>();
  }
  std::string Sealed(const std::string& key) const {
    return folder_.path() + "/sealed/" + key + ".log";
  }
  std::string Running(const std::string& name) const {
    return folder_.path() + "/running/" + name;
  }

  ScratchFolder folder_;
  FakeClock clock_;
  ResultStore::Options options_;
  std::unique_ptr<ResultStore> store_;
};

TEST_F(ResultStoreTest, ASealedLogIsReadFromMemoryTheSecondTime) {
  const LogExtent extent = SealOne(Key('a'), "answer");

  EXPECT_THAT(ReadSealed(Key('a'), extent), ElementsAre("answer"));
  EXPECT_THAT(ReadSealed(Key('a'), extent), ElementsAre("answer"));

  const ResultStoreStats stats = store_->stats();
  EXPECT_EQ(stats.disk_hits, 1);
  EXPECT_EQ(stats.memory_hits, 1);
  EXPECT_EQ(stats.misses, 0);
  EXPECT_EQ(stats.disk_entries, 1);
  EXPECT_EQ(stats.disk_bytes, 94);
  EXPECT_EQ(stats.memory_bytes, 94);
}

TEST_F(ResultStoreTest, ASealedLogSurvivesARestart) {
  const LogExtent extent = SealOne(Key('a'), "answer");
  Reopen();
  EXPECT_TRUE(store_->HasSealed(Key('a')));
  EXPECT_THAT(ReadSealed(Key('a'), extent), ElementsAre("answer"));
  EXPECT_THAT(std::filesystem::is_empty(folder_.path() + "/running"), true);
}

TEST_F(ResultStoreTest, ALogTooLargeForMemoryIsReadFromDisk) {
  options_.memory_bytes = 100;
  Reopen();
  const LogExtent extent = SealOne(Key('a'), "answer");
  EXPECT_THAT(ReadSealed(Key('a'), extent), ElementsAre("answer"));
  EXPECT_THAT(ReadSealed(Key('a'), extent), ElementsAre("answer"));
  EXPECT_EQ(store_->stats().disk_hits, 2);
  EXPECT_EQ(store_->stats().memory_entries, 0);
}

TEST_F(ResultStoreTest, AnotherProcessesLogIsFound) {
  ResultStore& ours = *store_;
  const auto theirs = *ResultStore::Open(options_, clock_);
  auto writer = std::move(theirs->StartLog(Key('a'), 1)->writer);
  ASSERT_TRUE(writer->Append("theirs").ok());
  const LogExtent extent = *theirs->Seal(std::move(writer));

  EXPECT_THAT(Read(**ours.OpenSealed(Key('a'), extent)), ElementsAre("theirs"));
}

TEST_F(ResultStoreTest, AnUnknownKeyIsAMiss) {
  const auto reader = store_->OpenSealed(Key('a'), LogExtent{1, 94, Key('0')});
  EXPECT_EQ(reader.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->stats().misses, 1);
}

TEST_F(ResultStoreTest, AFirstRecordBeyondTheEndIsOutOfRange) {
  const LogExtent extent = SealOne(Key('a'), "answer");
  EXPECT_THAT(Read(**store_->OpenSealed(Key('a'), extent, 1)), IsEmpty());
  const absl::Status beyond = store_->OpenSealed(Key('a'), extent, 2).status();
  EXPECT_EQ(beyond.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(GetErrorDetails(beyond).fields[0].field, "first_record");
}

TEST_F(ResultStoreTest, OnlySixtyFourHexDigitsAreAKey) {
  for (const std::string& key :
       {std::string(), std::string("../") + std::string(61, 'a'),
        std::string(63, 'a'), std::string(65, 'a'), std::string(64, 'A'),
        std::string(64, '\0')}) {
    SCOPED_TRACE(key);
    const absl::Status status = store_->StartLog(key, 1).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(GetErrorDetails(status).fields[0].field, "key");
    EXPECT_EQ(store_->OpenSealed(key, LogExtent()).status(), status);
    EXPECT_EQ(store_->OpenRunning(key, 1, LogExtent()).status(), status);
    EXPECT_EQ(store_->SaveState(key, 1, 0, ""), status);
    EXPECT_EQ(store_->LoadState(key, 1).status(), status);
    EXPECT_EQ(store_->Remove(key), status);
    EXPECT_FALSE(store_->HasSealed(key));
  }
}

TEST_F(ResultStoreTest, ADamagedLogIsDroppedAndCountedAndNeverServed) {
  const LogExtent extent = SealOne(Key('a'), "answer");
  const std::string bytes = FileBytes(Sealed(Key('a')));

  for (std::size_t i = 0; i < bytes.size(); ++i) {
    SCOPED_TRACE(i);
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    WriteBytes(Sealed(Key('a')), damaged);
    Reopen();
    EXPECT_EQ(store_->OpenSealed(Key('a'), extent).status().code(),
              absl::StatusCode::kDataLoss);
    EXPECT_FALSE(store_->HasSealed(Key('a')));
    EXPECT_EQ(store_->OpenSealed(Key('a'), extent).status().code(),
              absl::StatusCode::kNotFound);
    EXPECT_EQ(store_->stats().corrupt, 1);
    EXPECT_EQ(store_->stats().disk_entries, 0);
  }
}

TEST_F(ResultStoreTest, WellFormedRecordsOfAnotherDigestAreDamage) {
  const LogExtent extent = SealOne(Key('a'), "answer");
  LogExtent other = extent;
  other.digest = Key('0');
  Reopen();
  EXPECT_EQ(store_->OpenSealed(Key('a'), other).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_F(ResultStoreTest, AFileThatChangedIsVerifiedAgain) {
  options_.memory_bytes = 0;
  Reopen();
  const LogExtent extent = SealOne(Key('a'), "answer");
  EXPECT_THAT(ReadSealed(Key('a'), extent), ElementsAre("answer"));

  std::string damaged = FileBytes(Sealed(Key('a')));
  damaged.back() = 'X';
  WriteBytes(Sealed(Key('a')), damaged + "longer");

  EXPECT_EQ(store_->OpenSealed(Key('a'), extent).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_F(ResultStoreTest, AReaderOutlivesRemoval) {
  options_.memory_bytes = 0;
  Reopen();
  const LogExtent extent = SealOne(Key('a'), "answer");
  const auto reader = *store_->OpenSealed(Key('a'), extent);

  ASSERT_TRUE(store_->Remove(Key('a')).ok());

  EXPECT_THAT(Read(*reader), ElementsAre("answer"));
  EXPECT_FALSE(store_->HasSealed(Key('a')));
}

TEST_F(ResultStoreTest, ARunningReaderOutlivesSealing) {
  auto writer = std::move(store_->StartLog(Key('a'), 1)->writer);
  ASSERT_TRUE(writer->Append("one").ok());
  const LogExtent first = *writer->Commit();
  const auto open = *store_->OpenRunning(Key('a'), 1, first);
  const auto late = *store_->OpenRunning(Key('a'), 1, first);
  EXPECT_THAT(Read(*open), ElementsAre("one"));
  ASSERT_TRUE(writer->Append("two").ok());

  const LogExtent all = *store_->Seal(std::move(writer));

  ASSERT_TRUE(open->ExtendTo(all).ok());
  EXPECT_THAT(Read(*open), ElementsAre("two"));
  EXPECT_THAT(Read(*late), ElementsAre("one"));
}

TEST_F(ResultStoreTest, AResumedLogGoesOnAfterTheCommittedPrefix) {
  auto killed = std::move(store_->StartLog(Key('a'), 1)->writer);
  ASSERT_TRUE(killed->Append("one").ok());
  const LogExtent committed = *killed->Commit();
  ASSERT_TRUE(killed->Append("lost").ok());
  killed.reset();
  Reopen();

  StartedLog resumed =
      *store_->StartLog(Key('a'), 2, PreviousLog{1, committed});
  EXPECT_TRUE(resumed.previous.ok()) << resumed.previous;
  EXPECT_EQ(resumed.writer->extent(), committed);
  EXPECT_EQ(resumed.writer->next_record(), 1);
  ASSERT_TRUE(resumed.writer->Append("two").ok());
  const LogExtent extent = *store_->Seal(std::move(resumed.writer));

  auto whole = std::move(store_->StartLog(Key('b'), 1)->writer);
  ASSERT_TRUE(whole->Append("one").ok());
  ASSERT_TRUE(whole->Append("two").ok());
  EXPECT_EQ(store_->Seal(std::move(whole))->digest, extent.digest);
  EXPECT_THAT(ReadSealed(Key('a'), extent), ElementsAre("one", "two"));
}

TEST_F(ResultStoreTest, ADamagedPreviousLogIsSaidAndTheNewOneIsEmpty) {
  auto killed = std::move(store_->StartLog(Key('a'), 1)->writer);
  ASSERT_TRUE(killed->Append("one").ok());
  ASSERT_TRUE(killed->Append("two").ok());
  const LogExtent committed = *killed->Commit();
  std::string damaged = FileBytes(Running(Key('a') + ".1.log"));
  damaged.back() = 'X';
  WriteBytes(Running(Key('a') + ".1.log"), damaged);

  const StartedLog resumed =
      *store_->StartLog(Key('a'), 2, PreviousLog{1, committed});

  EXPECT_EQ(resumed.previous.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(resumed.writer->extent(), LogExtent());
  EXPECT_EQ(resumed.writer->next_record(), 0);
  EXPECT_EQ(store_->stats().corrupt, 1);
  const auto missing = store_->StartLog(Key('a'), 3, PreviousLog{9, committed});
  EXPECT_EQ(missing->previous.code(), absl::StatusCode::kNotFound);
}

TEST_F(ResultStoreTest, AnExecutionThatDiedBetweenSealAndRowIsResumed) {
  auto writer = std::move(store_->StartLog(Key('a'), 1)->writer);
  ASSERT_TRUE(writer->Append("one").ok());
  const LogExtent row = *writer->Commit();
  ASSERT_TRUE(writer->Append("two").ok());
  ASSERT_TRUE(store_->Seal(std::move(writer)).ok());

  const StartedLog resumed = *store_->StartLog(Key('a'), 2, PreviousLog{1, row});

  EXPECT_TRUE(resumed.previous.ok()) << resumed.previous;
  EXPECT_EQ(resumed.writer->extent(), row);
}

TEST_F(ResultStoreTest, AWorkerUnderAnOldFenceDisturbsNobody) {
  auto old = std::move(store_->StartLog(Key('a'), 1)->writer);
  ASSERT_TRUE(old->Append("one").ok());
  const LogExtent committed = *old->Commit();
  auto next = std::move(
      store_->StartLog(Key('a'), 2, PreviousLog{1, committed})->writer);

  ASSERT_TRUE(old->Append("stray").ok());
  ASSERT_TRUE(old->Commit().ok());
  ASSERT_TRUE(next->Append("two").ok());
  const LogExtent extent = *store_->Seal(std::move(next));

  EXPECT_THAT(ReadSealed(Key('a'), extent), ElementsAre("one", "two"));
}

TEST_F(ResultStoreTest, TheFenceOfThePreviousLogIsTaken) {
  const absl::Status status =
      store_->StartLog(Key('a'), 1, PreviousLog{1, LogExtent()}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(status).fields[0].field, "fence");
}

TEST_F(ResultStoreTest, KeepsTheLatestState) {
  EXPECT_EQ(store_->LoadState(Key('a'), 5)->has_value(), false);
  ASSERT_TRUE(store_->SaveState(Key('a'), 1, 0, "early").ok());
  ASSERT_TRUE(store_->SaveState(Key('a'), 1, 3, "late").ok());
  Reopen();

  const SavedState state = **store_->LoadState(Key('a'), 1);

  EXPECT_EQ(state.bytes, "late");
  EXPECT_EQ(state.records, 3);
  EXPECT_EQ(state.fence, 1);
}

TEST_F(ResultStoreTest, ASuccessorFindsTheStateOfItsPredecessor) {
  ASSERT_TRUE(store_->SaveState(Key('a'), 1, 0, "one").ok());
  ASSERT_TRUE(store_->SaveState(Key('a'), 3, 0, "three").ok());
  EXPECT_EQ((*store_->LoadState(Key('a'), 2))->bytes, "one");
  EXPECT_EQ((*store_->LoadState(Key('a'), 4))->bytes, "three");
}

TEST_F(ResultStoreTest, ADamagedStateIsPassedOver) {
  ASSERT_TRUE(store_->SaveState(Key('a'), 1, 0, "one").ok());
  ASSERT_TRUE(store_->SaveState(Key('a'), 2, 0, "two").ok());
  std::string damaged = FileBytes(Running(Key('a') + ".2.state"));
  damaged.back() = 'X';
  WriteBytes(Running(Key('a') + ".2.state"), damaged);

  EXPECT_EQ((*store_->LoadState(Key('a'), 2))->bytes, "one");
  EXPECT_EQ(store_->stats().corrupt, 1);
  EXPECT_FALSE(std::filesystem::exists(Running(Key('a') + ".2.state")));
}

TEST_F(ResultStoreTest, OpeningNeedsAFolderAndSaneLimits) {
  ResultStore::Options none;
  const absl::Status empty = ResultStore::Open(none, clock_).status();
  EXPECT_EQ(empty.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(empty).fields[0].field, "dir");
  options_.disk_bytes = -1;
  const absl::Status negative = ResultStore::Open(options_, clock_).status();
  EXPECT_EQ(GetErrorDetails(negative).fields[0].field, "disk_bytes");
}

}  // namespace
}  // namespace moescope
