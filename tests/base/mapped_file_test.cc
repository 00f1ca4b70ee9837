#include "moescope/base/mapped_file.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"

namespace moescope {
namespace {

using ::testing::HasSubstr;

class MappedFileTest : public ::testing::Test {
 protected:
  MappedFileTest()
      : path_(absl::StrCat(::testing::TempDir(), "mapped_file_", ::getpid())) {
    Write(std::string(64 * 1024, 'x'));
  }
  ~MappedFileTest() override { std::filesystem::remove(path_); }

  void Write(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
  }

  const std::string path_;
};

TEST_F(MappedFileTest, ShowsTheFilesBytes) {
  Write("abc");

  const auto file = MappedFile::Open(path_);

  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->bytes(), "abc");
  EXPECT_EQ((*file)->stamp().size_bytes, 3);
  EXPECT_TRUE((*file)->CheckIntact().ok());
}

TEST_F(MappedFileTest, AnEmptyFileHasNoBytes) {
  Write("");

  const auto file = MappedFile::Open(path_);

  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->bytes(), "");
  EXPECT_TRUE((*file)->CheckIntact().ok());
}

TEST_F(MappedFileTest, RefusesWhatIsNoFile) {
  EXPECT_EQ(MappedFile::Open("/no/such/file").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(MappedFile::Open(::testing::TempDir()).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_F(MappedFileTest, BytesCutOffReadAsZerosAndAreReported) {
  const auto file = MappedFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  std::filesystem::resize_file(path_, 8192);

  const char kept = (*file)->bytes()[100];
  const char cut_off = (*file)->bytes()[60'000];

  EXPECT_EQ(kept, 'x');
  EXPECT_EQ(cut_off, '\0');
  const absl::Status status = (*file)->CheckIntact();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(GetErrorDetails(status).reason, "FILE_CHANGED");
  EXPECT_THAT(std::string(status.message()), HasSubstr("mapped_file_"));
  EXPECT_THAT(std::string(status.message()),
              ::testing::Not(HasSubstr(::testing::TempDir())));
}

TEST_F(MappedFileTest, ManyThreadsMayMeetTheCutAtOnce) {
  const auto file = MappedFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  std::filesystem::resize_file(path_, 0);
  const auto sum = [&] {
    int total = 0;
    for (std::size_t i = (*file)->bytes().size(); i > 0; i -= 4096) {
      total += (*file)->bytes()[i - 1];
    }
    EXPECT_EQ(total, 0);
  };

  std::thread other(sum);
  sum();
  other.join();

  EXPECT_EQ((*file)->CheckIntact().code(), absl::StatusCode::kDataLoss);
}

TEST_F(MappedFileTest, ACutThatNobodyReadIsSeenByItsSize) {
  const auto file = MappedFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  std::filesystem::resize_file(path_, 8192);

  EXPECT_THAT(std::string((*file)->CheckIntact().message()),
              HasSubstr("has 8192 bytes, and had 65536"));
}

TEST_F(MappedFileTest, AWriteIsSeenByItsTime) {
  const auto file = MappedFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  std::filesystem::last_write_time(
      path_, std::filesystem::file_time_type::clock::now() +
                 std::chrono::seconds(5));

  EXPECT_THAT(std::string((*file)->CheckIntact().message()),
              HasSubstr("was written to"));
}

TEST_F(MappedFileTest, AReplacedFileIsStillMappedAsItWas) {
  const auto file = MappedFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  const std::string other = absl::StrCat(path_, ".new");
  std::ofstream(other) << "y";
  std::filesystem::rename(other, path_);

  EXPECT_EQ((*file)->bytes()[60'000], 'x');
  EXPECT_TRUE((*file)->CheckIntact().ok());
}

using MappedFileDeathTest = MappedFileTest;

TEST_F(MappedFileDeathTest, OtherBusErrorsStillEndTheProcess) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  // A sanitizer's handler ends it in its own way.
  EXPECT_DEATH(
      {
        const auto file = MappedFile::Open(path_);
        ::kill(::getpid(), SIGBUS);
        ::pause();
      },
      "");
}

}  // namespace
}  // namespace moescope
