#include "moescope/app/config.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moescope {
namespace {

using testing::HasSubstr;

struct Parsed {
  CommandLine line;
  std::string out;
  std::string err;
};

Parsed Parse(std::vector<const char*> flags) {
  flags.insert(flags.begin(), "moescope-server");
  std::ostringstream out;
  std::ostringstream err;
  CommandLine line = ParseCommandLine(static_cast<int>(flags.size()),
                                      flags.data(), out, err);
  return {std::move(line), out.str(), err.str()};
}

TEST(ConfigTest, DefaultsListenOnLoopback) {
  const Parsed parsed = Parse({"--model_root=/m"});

  ASSERT_EQ(parsed.line.exit_status, std::nullopt) << parsed.err;
  EXPECT_EQ(parsed.line.config.listen, "127.0.0.1:50051");
  EXPECT_EQ(parsed.line.config.metrics_listen, "127.0.0.1:9464");
  EXPECT_EQ(parsed.line.config.service.data_dir, "./moescope-data");
  EXPECT_EQ(parsed.line.config.drain_grace, absl::Seconds(30));
}

TEST(ConfigTest, FlagsAreUnderstood) {
  const Parsed parsed =
      Parse({"--model_root=/m", "--memory_budget=4GiB", "--cache_bytes=1MiB",
             "--preload=a,b", "--drain_grace=5s", "--max_tokens=100"});

  ASSERT_EQ(parsed.line.exit_status, std::nullopt) << parsed.err;
  EXPECT_EQ(parsed.line.config.service.memory_budget_bytes, 4294967296);
  EXPECT_EQ(parsed.line.config.service.cache_disk_bytes, 1048576);
  EXPECT_THAT(parsed.line.config.preload, testing::ElementsAre("a", "b"));
  EXPECT_EQ(parsed.line.config.drain_grace, absl::Seconds(5));
  EXPECT_EQ(parsed.line.config.service.max_tokens, 100);
}

class ConfigFileTest : public testing::Test {
 protected:
  ~ConfigFileTest() override { std::filesystem::remove(path_); }
  Parsed ParseWithFile(const std::string& text,
                       std::vector<const char*> flags) {
    std::ofstream(path_) << text;
    const std::string flag = "--config=" + path_;
    flags.push_back(flag.c_str());
    return Parse(std::move(flags));
  }
  const std::string path_ = testing::TempDir() + "moescope_config_test_" +
                            std::to_string(::getpid());
};

TEST_F(ConfigFileTest, HoldsFlagsThatTheCommandLineOverrides) {
  const Parsed parsed = ParseWithFile(
      "# as on the command line\n"
      "model_root=/m\ncache_bytes=1MiB\npreload=a,b\nthreads=3\n"
      "listen=0.0.0.0:1\nallow_insecure_remote=true\n",
      {"--threads=5"});

  ASSERT_EQ(parsed.line.exit_status, std::nullopt) << parsed.err;
  EXPECT_EQ(parsed.line.config.service.model_root, "/m");
  EXPECT_EQ(parsed.line.config.service.cache_disk_bytes, 1048576);
  EXPECT_THAT(parsed.line.config.preload, testing::ElementsAre("a", "b"));
  EXPECT_EQ(parsed.line.config.service.threads, 5);
  EXPECT_TRUE(parsed.line.config.allow_insecure_remote);
}

TEST_F(ConfigFileTest, UnknownFlagIsNamed) {
  const Parsed parsed = ParseWithFile("nonsense=1\n", {"--model_root=/m"});

  EXPECT_EQ(parsed.line.exit_status, 2);
  EXPECT_THAT(parsed.err, HasSubstr("nonsense"));
}

TEST_F(ConfigFileTest, WhatIsWrongIsNamedByLine) {
  const std::string model_root = "# flags\nmodel_root=/m\n\n";
  const std::string place = " of \"" + path_ + "\"";

  EXPECT_THAT(ParseWithFile(model_root + "nonsense=1\n", {}).err,
              HasSubstr("line 4" + place + ": \"nonsense\" is no flag"));
  EXPECT_THAT(ParseWithFile(model_root + "[server]\n", {}).err,
              HasSubstr("line 4" + place + ": \"[server]\" is no flag"));
  EXPECT_THAT(ParseWithFile(model_root + "config=x\n", {}).err,
              HasSubstr("line 4" + place + ": \"config\" is no flag"));
  EXPECT_THAT(ParseWithFile(model_root + "threads=\n", {}).err,
              HasSubstr("line 4" + place + ": \"threads\" has no value"));
  EXPECT_THAT(ParseWithFile(model_root + "model_root=/n\n", {}).err,
              HasSubstr("line 4" + place +
                        ": \"model_root\" stands on line 2 already"));
  EXPECT_THAT(ParseWithFile(model_root + "threads=many\n", {}).err,
              HasSubstr("--threads: Value many not in range 0 to 1024 (line 4" +
                        place + ")"));
  EXPECT_THAT(ParseWithFile(model_root + "max_tokens=0\n", {}).err,
              HasSubstr("(line 4" + place + ")"));
  EXPECT_THAT(ParseWithFile(model_root + "device=gpu\n", {}).err,
              HasSubstr("one of auto, cpu, cuda:N (line 4" + place + ")"));
}

TEST_F(ConfigFileTest, WhatTheCommandLineSaysIsNoLinesFault) {
  const Parsed parsed =
      ParseWithFile("model_root=/m\ndevice=cpu\n", {"--device=gpu"});

  EXPECT_EQ(parsed.line.exit_status, 2);
  EXPECT_THAT(parsed.err, HasSubstr("one of auto, cpu, cuda:N\n"));
}

TEST(ConfigTest, AbsentFileOfFlagsIsNamed) {
  const Parsed parsed =
      Parse({"--model_root=/m", "--config=/does/not/exist"});

  EXPECT_EQ(parsed.line.exit_status, 2);
  EXPECT_THAT(parsed.err, HasSubstr("/does/not/exist"));
}

TEST(ConfigTest, UnknownFlagIsNamedWithThoseThatExist) {
  const Parsed parsed = Parse({"--model_root=/m", "--nonsense=1"});

  EXPECT_EQ(parsed.line.exit_status, 2);
  EXPECT_THAT(parsed.err, HasSubstr("--nonsense"));
  EXPECT_THAT(parsed.err, HasSubstr("--model_root"));
}

TEST(ConfigTest, UnknownFlagIsNamedAlsoWhereModelRootIsMissing) {
  const Parsed parsed = Parse({"--nope"});

  EXPECT_EQ(parsed.line.exit_status, 2);
  EXPECT_THAT(parsed.err, testing::HasSubstr("--nope"));
}

TEST(ConfigTest, ModelRootIsRequired) {
  const Parsed parsed = Parse({});

  EXPECT_EQ(parsed.line.exit_status, 2);
  EXPECT_THAT(parsed.err, HasSubstr("--model_root"));
}

TEST(ConfigTest, UnknownDeviceGetsTheAllowedOnes) {
  const Parsed parsed = Parse({"--model_root=/m", "--device=cuda:x"});

  EXPECT_EQ(parsed.line.exit_status, 2);
  EXPECT_THAT(parsed.err, HasSubstr("auto, cpu, cuda:N"));
}

TEST(ConfigTest, RemoteAddressNeedsAWord) {
  const Parsed refused = Parse({"--model_root=/m", "--listen=0.0.0.0:1"});
  const Parsed allowed = Parse(
      {"--model_root=/m", "--listen=0.0.0.0:1", "--allow_insecure_remote"});

  EXPECT_EQ(refused.line.exit_status, 2);
  EXPECT_THAT(refused.err, HasSubstr("--allow_insecure_remote"));
  EXPECT_EQ(allowed.line.exit_status, std::nullopt) << allowed.err;
}

TEST(ConfigTest, VersionEndsWell) {
  const Parsed parsed = Parse({"--version"});

  EXPECT_EQ(parsed.line.exit_status, 0);
  EXPECT_THAT(parsed.out, HasSubstr("moescope-server "));
}

TEST(ConfigTest, ListenAddressOfIpv6HasBrackets) {
  const auto address = ParseListenAddress("[::1]:80");
  ASSERT_TRUE(address.ok());

  EXPECT_EQ(address->host, "::1");
  EXPECT_EQ(address->port, 80);
}

TEST(ConfigTest, PortBeyondTheRangeIsRefused) {
  EXPECT_EQ(ParseListenAddress("127.0.0.1:65536").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ConfigTest, ShareOfMemoryIsLeftToBeResolvedWithTheDevice) {
  const Parsed parsed = Parse(
      {"--model_root=/m", "--device=cuda:0", "--memory_budget=90%"});

  ASSERT_EQ(parsed.line.exit_status, std::nullopt) << parsed.err;
  EXPECT_EQ(parsed.line.config.service.memory_budget_bytes, 0);
  EXPECT_DOUBLE_EQ(parsed.line.config.service.memory_budget_share, 0.9);
}

TEST(ConfigTest, MemoryOfNinetyIsNoShare) {
  EXPECT_EQ(ParseMemoryBudget("90").status().message(),
            "memory_budget: \"90\" is below 1MiB");
  EXPECT_EQ(ParseMemoryBudget("1MiB")->bytes, 1 << 20);
}

TEST(ConfigTest, ShareOfMemoryIsAtMostAllOfIt) {
  EXPECT_EQ(ParseMemoryBudget("101%").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseMemoryBudget("0%").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ConfigTest, NameThatOnlyBeginsLikeLoopbackIsRemote) {
  EXPECT_TRUE(IsLoopback("127.0.0.2"));
  EXPECT_FALSE(IsLoopback("127.example.org"));
}

}  // namespace
}  // namespace moescope
