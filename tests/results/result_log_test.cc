#include "moescope/results/result_log.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "moescope/results/result_store.h"
#include "server/results/crc32c_internal.h"
#include "tests/results/result_files.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/scratch_folder.h"

namespace moescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ResultLogTest : public ::testing::Test {
 protected:
  ResultLogTest() {
    ResultStore::Options options;
    options.dir = folder_.path();
    store_ = *ResultStore::Open(options, clock_);
  }

  std::unique_ptr<LogWriter> Start(std::int64_t fence) {
    return std::move(store_->StartLog(Key('a'), fence)->writer);
  }
  std::string RunningPath(std::int64_t fence) const {
    return folder_.path() + "/running/" + Key('a') + "." +
           std::to_string(fence) + ".log";
  }
  /// All payloads up to the end or the first failure, which goes to `status_`.
  std::vector<std::string> ReadAll(LogReader& reader) {
    std::vector<std::string> payloads;
    for (;;) {
      const auto next = reader.Next();
      status_ = next.status();
      if (!next.ok() || !next->has_value()) {
        return payloads;
      }
      payloads.emplace_back(**next);
    }
  }
  std::vector<std::string> ReadRunning(std::int64_t fence,
                                       const LogExtent& extent,
                                       std::int64_t first = 0) {
    return ReadAll(**store_->OpenRunning(Key('a'), fence, extent, first));
  }

  ScratchFolder folder_;
  FakeClock clock_;
  std::unique_ptr<ResultStore> store_;
  absl::Status status_;
};

TEST(Crc32cTest, AgreesWithThePublishedCheckValues) {
  EXPECT_EQ(internal::Crc32c("123456789"), 0xE3069283u);
  // RFC 3720, appendix B.4.
  EXPECT_EQ(internal::Crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(internal::Crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
  EXPECT_EQ(internal::Crc32c("56789", internal::Crc32c("1234")), 0xE3069283u);
}

TEST_F(ResultLogTest, ReadsBackWhatWasCommitted) {
  const auto writer = Start(1);
  ASSERT_TRUE(writer->Append("one").ok());
  ASSERT_TRUE(writer->Append("").ok());
  ASSERT_TRUE(writer->Append("three").ok());

  const LogExtent extent = *writer->Commit();

  EXPECT_EQ(extent.records, 3);
  // Header 80, three record headers of 8, eight bytes of payload.
  EXPECT_EQ(extent.bytes, 112);
  // sha256(03 00… "one" 00 00… 05 00… "three").
  EXPECT_EQ(extent.digest,
            "c9e35c9b7a2e1f164ff13115efe5a6c6678cc3e7131190113e4c876cae2c9065");
  EXPECT_THAT(ReadRunning(1, extent), ElementsAre("one", "", "three"));
  EXPECT_TRUE(status_.ok()) << status_;
}

TEST_F(ResultLogTest, ShowsNothingThatIsNotCommitted) {
  const auto writer = Start(1);
  ASSERT_TRUE(writer->Append("one").ok());
  const LogExtent extent = *writer->Commit();
  ASSERT_TRUE(writer->Append("two").ok());

  EXPECT_EQ(writer->extent(), extent);
  EXPECT_EQ(writer->next_record(), 2);
  EXPECT_THAT(ReadRunning(1, extent), ElementsAre("one"));
}

TEST_F(ResultLogTest, NothingCommittedReadsAsNothing) {
  EXPECT_THAT(ReadRunning(7, LogExtent()), IsEmpty());
  EXPECT_TRUE(status_.ok()) << status_;
}

TEST_F(ResultLogTest, StartsReadingAtAnyRecord) {
  const auto writer = Start(1);
  ASSERT_TRUE(writer->Append("zero").ok());
  ASSERT_TRUE(writer->Append("one").ok());
  ASSERT_TRUE(writer->Append("two").ok());
  const LogExtent extent = *writer->Commit();

  EXPECT_THAT(ReadRunning(1, extent, 2), ElementsAre("two"));
  EXPECT_THAT(ReadRunning(1, extent, 3), IsEmpty());
}

TEST_F(ResultLogTest, FollowsARunningExecution) {
  const auto writer = Start(1);
  const auto reader = *store_->OpenRunning(Key('a'), 1, LogExtent(), 1);
  EXPECT_THAT(ReadAll(*reader), IsEmpty());
  EXPECT_EQ(reader->next_record(), 1);

  ASSERT_TRUE(writer->Append("zero").ok());
  ASSERT_TRUE(reader->ExtendTo(*writer->Commit()).ok());
  EXPECT_THAT(ReadAll(*reader), IsEmpty());

  ASSERT_TRUE(writer->Append("one").ok());
  ASSERT_TRUE(writer->Append("two").ok());
  ASSERT_TRUE(reader->ExtendTo(*writer->Commit()).ok());
  EXPECT_THAT(ReadAll(*reader), ElementsAre("one", "two"));
  EXPECT_EQ(reader->next_record(), 3);
}

TEST_F(ResultLogTest, AnExtentDoesNotShrink) {
  const auto writer = Start(1);
  ASSERT_TRUE(writer->Append("zero").ok());
  const auto reader = *store_->OpenRunning(Key('a'), 1, *writer->Commit());

  const absl::Status shrunk = reader->ExtendTo(LogExtent());

  EXPECT_EQ(shrunk.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(shrunk).fields[0].field, "extent");
}

TEST_F(ResultLogTest, AsksForACommitAfterASecond) {
  const auto writer = Start(1);
  clock_.Advance(absl::Hours(1));
  EXPECT_FALSE(writer->ShouldCommit());
  ASSERT_TRUE(writer->Append("one").ok());
  EXPECT_FALSE(writer->ShouldCommit());
  clock_.Advance(absl::Milliseconds(999));
  EXPECT_FALSE(writer->ShouldCommit());
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_TRUE(writer->ShouldCommit());
  ASSERT_TRUE(writer->Commit().ok());
  EXPECT_FALSE(writer->ShouldCommit());
}

TEST_F(ResultLogTest, AsksForACommitAfterEightMebibytes) {
  const auto writer = Start(1);
  ASSERT_TRUE(writer->Append(std::string(4 << 20, 'x')).ok());
  EXPECT_FALSE(writer->ShouldCommit());
  ASSERT_TRUE(writer->Append(std::string(4 << 20, 'x')).ok());
  EXPECT_TRUE(writer->ShouldCommit());
}

TEST_F(ResultLogTest, TwoWritersOfTheSameRecordsMakeTheSameFile) {
  const auto first = Start(1);
  ASSERT_TRUE(first->Append("one").ok());
  ASSERT_TRUE(first->Commit().ok());
  ASSERT_TRUE(first->Append("two").ok());
  const auto second = Start(2);
  ASSERT_TRUE(second->Append("one").ok());
  ASSERT_TRUE(second->Append("two").ok());

  EXPECT_EQ(*first->Commit(), *second->Commit());
  EXPECT_EQ(FileBytes(RunningPath(1)), FileBytes(RunningPath(2)));
}

TEST_F(ResultLogTest, ACrashInsideTheLastRecordLeavesTheCommittedPrefix) {
  const auto writer = Start(1);
  ASSERT_TRUE(writer->Append("one").ok());
  ASSERT_TRUE(writer->Append("two").ok());
  const LogExtent committed = *writer->Commit();
  ASSERT_TRUE(writer->Append("lost").ok());
  const LogExtent beyond = *writer->Commit();
  const std::string bytes = FileBytes(RunningPath(1));
  ASSERT_EQ(bytes.size(), 114u);

  for (std::int64_t size = committed.bytes; size <= beyond.bytes; ++size) {
    SCOPED_TRACE(size);
    WriteBytes(RunningPath(1), bytes.substr(0, static_cast<std::size_t>(size)));
    EXPECT_THAT(ReadRunning(1, committed), ElementsAre("one", "two"));
    EXPECT_TRUE(status_.ok()) << status_;
    const StartedLog resumed =
        *store_->StartLog(Key('a'), 2, PreviousLog{1, committed});
    EXPECT_TRUE(resumed.previous.ok()) << resumed.previous;
    EXPECT_EQ(resumed.writer->extent(), committed);
  }
}

TEST_F(ResultLogTest, AFileShorterThanItsExtentIsDataLoss) {
  const auto writer = Start(1);
  ASSERT_TRUE(writer->Append("one").ok());
  ASSERT_TRUE(writer->Append("two").ok());
  const LogExtent extent = *writer->Commit();
  const std::string bytes = FileBytes(RunningPath(1));

  for (std::size_t size = 0; size < bytes.size(); ++size) {
    SCOPED_TRACE(size);
    WriteBytes(RunningPath(1), bytes.substr(0, size));
    ReadRunning(1, extent);
    EXPECT_EQ(status_.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status_.message()), HasSubstr("result log: "));
  }
}

TEST_F(ResultLogTest, AChangeOfAnyByteIsDataLoss) {
  const auto writer = Start(1);
  ASSERT_TRUE(writer->Append("one").ok());
  ASSERT_TRUE(writer->Append("two").ok());
  const LogExtent extent = *writer->Commit();
  const std::string bytes = FileBytes(RunningPath(1));

  for (std::size_t i = 0; i < bytes.size(); ++i) {
    SCOPED_TRACE(i);
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    WriteBytes(RunningPath(1), damaged);
    ReadRunning(1, extent);
    EXPECT_EQ(status_.code(), absl::StatusCode::kDataLoss);
  }
}

TEST_F(ResultLogTest, RefusesTheLogOfAnotherKey) {
  const auto writer = Start(1);
  ASSERT_TRUE(writer->Append("one").ok());
  const LogExtent extent = *writer->Commit();
  WriteBytes(folder_.path() + "/running/" + Key('b') + ".1.log",
             FileBytes(RunningPath(1)));

  const auto reader = *store_->OpenRunning(Key('b'), 1, extent);

  EXPECT_EQ(reader->Next().status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(ResultLogTest, AMissingFileIsNotFound) {
  ReadRunning(3, LogExtent{1, 91, Key('0')});
  EXPECT_EQ(status_.code(), absl::StatusCode::kNotFound);
}

TEST_F(ResultLogTest, ATooLongRecordIsRefusedBeforeItIsLookedAt) {
  const auto writer = Start(1);
  const char byte = 'x';
  // The length alone decides: nothing behind the first byte is read.
  const absl::string_view huge(
      &byte, static_cast<std::size_t>(kMaxRecordBytes) + 1);

  const absl::Status status = writer->Append(huge);

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("1073741825 bytes"));
}

}  // namespace
}  // namespace moescope
