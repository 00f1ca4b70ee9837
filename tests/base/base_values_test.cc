#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "moescope/base/byte_size.h"
#include "moescope/base/file.h"
#include "moescope/base/log.h"
#include "moescope/base/run_context.h"
#include "moescope/base/sha256.h"
#include "moescope/base/uuid.h"

namespace moescope {
namespace {

using ::testing::HasSubstr;

TEST(ByteSizeTest, ReadsPlainBinaryAndDecimalUnits) {
  EXPECT_EQ(*ParseByteSize("1048576"), 1048576);
  EXPECT_EQ(*ParseByteSize("4GiB"), 4294967296);
  EXPECT_EQ(*ParseByteSize("1.5KiB"), 1536);
  EXPECT_EQ(*ParseByteSize("4GB"), 4000000000);
}

TEST(ByteSizeTest, RefusesWhatIsNoSize) {
  EXPECT_THAT(std::string(ParseByteSize("-1").status().message()),
              HasSubstr("\"-1\" is not a size"));
  EXPECT_EQ(ParseByteSize("").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseByteSize("4GiBs").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseByteSize("99999999TiB").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ByteSizeTest, FormatsWithOneDecimal) {
  EXPECT_EQ(FormatByteSize(512), "512 B");
  EXPECT_EQ(FormatByteSize(11114188), "10.6 MiB");
}

TEST(Sha256Test, MatchesThePublishedVector) {
  // FIPS 180-4 example: SHA-256("abc").
  EXPECT_EQ(
      Sha256Hex("abc"),
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256Test, DigestMayBeAskedBetweenUpdates) {
  Sha256 hash;
  hash.Update("a");
  EXPECT_EQ(hash.HexDigest(), Sha256Hex("a"));
  hash.Update("bc");
  EXPECT_EQ(hash.HexDigest(), Sha256Hex("abc"));
}

TEST(UuidTest, CarriesVersionVariantAndTime) {
  const std::string uuid = NewUuidV7(absl::FromUnixMillis(0x0123456789ab));
  EXPECT_EQ(uuid.substr(0, 15), "01234567-89ab-7");
  EXPECT_THAT(std::string("89ab"), HasSubstr(uuid.substr(19, 1)));
  EXPECT_TRUE(IsUuid(uuid));
}

TEST(UuidTest, RefusesOtherForms) {
  EXPECT_FALSE(IsUuid(""));
  EXPECT_FALSE(IsUuid("0123456789ab70000000000000000000xxxx"));
  EXPECT_FALSE(IsUuid("01234567-89AB-7000-8000-000000000000"));
}

TEST(LogTest, WritesOneJsonObjectPerLine) {
  std::vector<std::string> lines;
  SetLogSink([&](absl::string_view line) { lines.emplace_back(line); });
  Log(LogLevel::kInfo, "job_finished",
      {{"job", "a\"b\n"}, {"tokens", 7}, {"ok", true}, {"bad", "\xff"}});
  Log(LogLevel::kDebug, "not_shown");
  SetLogSink(nullptr);

  ASSERT_EQ(lines.size(), 1U);
  EXPECT_THAT(lines[0], HasSubstr("\"level\":\"info\",\"event\":"
                                  "\"job_finished\",\"job\":\"a\\\"b\\n\","
                                  "\"tokens\":7,\"ok\":true,"
                                  "\"bad\":\"\xef\xbf\xbd\"}\n"));
}

TEST(FileTest, AnAtomicWriteReplacesTheWholeFile) {
  const std::string folder = ::testing::TempDir() + "moescope_file_test";
  ASSERT_TRUE(MakeDirectories(folder).ok());
  const std::string path = folder + "/value";
  ASSERT_TRUE(WriteFileAtomically(path, "first, longer").ok());
  ASSERT_TRUE(WriteFileAtomically(path, "second").ok());
  EXPECT_EQ(*ReadFile(path, 100), "second");
  EXPECT_EQ(ReadFile(path, 3).status().code(),
            absl::StatusCode::kResourceExhausted);
  std::filesystem::remove_all(folder);
  EXPECT_EQ(ReadFile(path, 100).status().code(), absl::StatusCode::kNotFound);
}

TEST(RunContextTest, TellsWhyWorkIsNoLongerWanted) {
  RunContext context;
  EXPECT_TRUE(context.Check().ok());
  context.token().Cancel(absl::CancelledError("the client left"));
  context.token().Cancel(absl::InternalError("too late"));
  EXPECT_EQ(context.Check(), absl::CancelledError("the client left"));
}

TEST(RunContextTest, ADeadlineEndsWork) {
  RunContext context;
  context.set_deadline(absl::UnixEpoch());
  EXPECT_EQ(context.Check().code(), absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace moescope
