#include "moescope/model/discovery.h"

#include <chrono>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/base/error.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> Names(const std::string& root) {
  const auto models = DiscoverModels(root);
  std::vector<std::string> names;
  for (const ModelFolder& model : *models) {
    names.push_back(model.name);
  }
  return names;
}

std::string Field(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  return details.fields.empty() ? "" : details.fields.front().field;
}

TEST(DiscoveryTest, FindsFoldersWithAConfigByRelativeName) {
  ScratchFolder root;
  root.Write("b/config.json", "{}");
  root.Write("a/config.json", "{}");
  root.Write("team/c/config.json", "{}");
  root.Write("empty/readme.txt", "");

  const auto models = DiscoverModels(root.path());

  ASSERT_TRUE(models.ok()) << models.status();
  EXPECT_THAT(Names(root.path()), ElementsAre("a", "b", "team/c"));
  EXPECT_EQ((*models)[2].path, fs::canonical(root / "team/c").string());
}

TEST(DiscoveryTest, WhatIsInsideAModelIsNoModel) {
  ScratchFolder root;
  root.Write("gpt-oss/config.json", "{}");
  root.Write("gpt-oss/original/config.json", "{}");
  root.Write("gpt-oss/a/b/config.json", "{}");
  root.Write("gpt-oss-large/config.json", "{}");

  EXPECT_THAT(Names(root.path()), ElementsAre("gpt-oss", "gpt-oss-large"));
  EXPECT_THAT(Names(root / "gpt-oss"), ElementsAre("gpt-oss"));
}

TEST(DiscoveryTest, ListsWeightsWithoutAConfigButDoesNotResolveThem) {
  ScratchFolder root;
  root.Write("b/model-00001-of-00002.safetensors", "");
  root.Write("c/model.safetensors.index.json", "");
  root.Write("d/notes.safetensors", "");
  root.Write("team/a/pytorch_model.bin", "");
  root.Write("model.safetensors", "");
  root.Write("whole/config.json", "{}");

  const auto models = DiscoverModels(root.path());

  EXPECT_THAT(Names(root.path()), ElementsAre("b", "c", "team/a", "whole"));
  EXPECT_FALSE((*models)[0].has_config);
  EXPECT_TRUE((*models)[3].has_config);
  EXPECT_EQ(
      GetErrorDetails(ResolveModel(root.path(), "team/a").status()).reason,
      "MODEL_CONFIG_MISSING");
  EXPECT_THAT(
      std::string(ResolveModel(root.path(), "nobody").status().message()),
      HasSubstr("(known: whole)"));
}

TEST(DiscoveryTest, AFolderWithoutAConfigHidesNoCachedModelOfItsName) {
  ScratchFolder root;
  root.Write("a/m/model.safetensors", "");
  root.Write("models--a--m/snapshots/r/config.json", "{}");

  EXPECT_THAT(Names(root.path()), ElementsAre("a/m"));
  EXPECT_TRUE(ResolveModel(root.path(), "a/m").ok());
}

TEST(DiscoveryTest, FindsTheBundledModels) {
  EXPECT_THAT(Names(MOESCOPE_SOURCE_DIR "/tests/testdata/models"),
              ElementsAre("tiny-deepseek", "tiny-mistral", "tiny-mixtral"));
}

TEST(DiscoveryTest, ListsARootThatIsAModelByItsOwnName) {
  ScratchFolder root;
  root.Write("only/config.json", "{}");

  EXPECT_THAT(Names(root / "only"), ElementsAre("only"));
  EXPECT_TRUE(ResolveModel(root / "only", "only").ok());
}

TEST(DiscoveryTest, LeavesOutHiddenAndDeepFolders) {
  ScratchFolder root;
  root.Write(".git/config.json", "{}");
  root.Write("a/.cache/config.json", "{}");
  root.Write("1/2/3/4/config.json", "{}");
  root.Write("1/2/3/4/5/config.json", "{}");

  EXPECT_THAT(Names(root.path()), ElementsAre("1/2/3/4"));
}

TEST(DiscoveryTest, LeavesOutLinksThatLeadOutOfTheRoot) {
  ScratchFolder outside;
  outside.Write("secret/config.json", "{}");
  ScratchFolder root;
  fs::create_directory_symlink(outside / "secret", root / "escape");
  fs::create_directory(root / "half");
  fs::create_symlink(outside / "secret/config.json",
                     root / "half/config.json");

  EXPECT_THAT(Names(root.path()), IsEmpty());
  EXPECT_EQ(ResolveModel(root.path(), "escape").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_FALSE(ResolveModel(root.path(), "half").ok());
}

TEST(DiscoveryTest, FollowsLinksInsideTheRootAndEndsOnCycles) {
  ScratchFolder root;
  root.Write("real/config.json", "{}");
  fs::create_directory_symlink(root / "real", root / "alias");
  fs::create_directory_symlink(root.path(), root / "real/loop");

  const auto alias = ResolveModel(root.path(), "alias");

  ASSERT_TRUE(alias.ok()) << alias.status();
  EXPECT_EQ(alias->path, fs::canonical(root / "real").string());
  EXPECT_THAT(Names(root.path()), ::testing::Contains("alias"));
}

TEST(DiscoveryTest, IsNotMisledByARootThatIsAPrefixOfItsNeighbour) {
  ScratchFolder parent;
  parent.Write("models-old/m/config.json", "{}");
  fs::create_directory(parent / "models");
  fs::create_directory_symlink(parent / "models-old/m", parent / "models/m");

  EXPECT_THAT(Names(parent / "models"), IsEmpty());
}

TEST(DiscoveryTest, ReadsAHuggingFaceCache) {
  ScratchFolder root;
  const std::string repo = "models--org--some--name/";
  root.Write(repo + "blobs/abc", "{}");
  root.Write(repo + "refs/main", "r1\n");
  fs::create_directories(root / (repo + "snapshots/r1"));
  fs::create_directories(root / (repo + "snapshots/r2"));
  fs::create_symlink("../../blobs/abc",
                     root / (repo + "snapshots/r1/config.json"));
  fs::create_symlink("../../blobs/abc",
                     root / (repo + "snapshots/r2/config.json"));

  const auto model = ResolveModel(root.path(), "org/some--name");

  EXPECT_THAT(Names(root.path()), ElementsAre("org/some--name"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->path,
            fs::canonical(root / (repo + "snapshots/r1")).string());
}

TEST(DiscoveryTest, TakesTheNewestSnapshotWithoutAMainRevision) {
  ScratchFolder root;
  root.Write("models--org--m/snapshots/a/config.json", "{}");
  root.Write("models--org--m/snapshots/b/config.json", "{}");
  const auto now = fs::file_time_type::clock::now();
  fs::last_write_time(root / "models--org--m/snapshots/a", now);
  fs::last_write_time(root / "models--org--m/snapshots/b",
                      now - std::chrono::hours(1));

  const auto model = ResolveModel(root.path(), "org/m");

  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(model->path, ::testing::EndsWith("snapshots/a"));
}

TEST(DiscoveryTest, AMainRevisionCannotLeaveItsFolder) {
  ScratchFolder root;
  root.Write("other/config.json", "{}");
  root.Write("models--org--m/refs/main", "../../other");
  fs::create_directories(root / "models--org--m/snapshots");

  EXPECT_THAT(Names(root.path()), ElementsAre("other"));
}

TEST(DiscoveryTest, ResolvesAFolderInsideACacheByItsPath) {
  ScratchFolder root;
  root.Write("models--org--m/snapshots/a/config.json", "{}");

  EXPECT_TRUE(
      ResolveModel(root.path(), "models--org--m/snapshots/a").ok());
}

struct BadName {
  const char* name;
  std::string model;
};

// Without it gtest prints bytes, addresses among them, into test names.
void PrintTo(const BadName& row, std::ostream* out) { *out << row.name; }

class BadModelNameTest : public ::testing::TestWithParam<BadName> {};

TEST_P(BadModelNameTest, IsRefusedNamingTheField) {
  ScratchFolder root;
  root.Write("a/config.json", "{}");

  const auto model = ResolveModel(root.path(), GetParam().model);

  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Field(model.status()), "model");
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadModelNameTest,
    ::testing::Values(BadName{"Empty", ""}, BadName{"Absolute", "/etc"},
                      BadName{"Parent", ".."}, BadName{"ParentFirst", "../x"},
                      BadName{"ParentInside", "a/../../x"},
                      BadName{"ParentLast", "a/.."}, BadName{"Dot", "."},
                      BadName{"DotLast", "a/."}, BadName{"TwoSlashes", "a//b"},
                      BadName{"SlashLast", "a/"},
                      BadName{"Backslash", "a\\b"},
                      BadName{"Percent", "%2e%2e/x"},
                      BadName{"Nul", std::string("a\0b", 3)},
                      BadName{"LineFeed", "a\nb"},
                      BadName{"Long", std::string(2000, 'a')}),
    [](const ::testing::TestParamInfo<BadName>& row) {
      return std::string(row.param.name);
    });

TEST(DiscoveryTest, ListsKnownNamesForAnUnknownOneAndNoPaths) {
  ScratchFolder root;
  root.Write("a/config.json", "{}");
  root.Write("b/config.json", "{}");

  const auto model = ResolveModel(root.path(), "c");

  EXPECT_EQ(model.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Field(model.status()), "model");
  EXPECT_EQ(GetErrorDetails(model.status()).reason, "MODEL_NOT_FOUND");
  EXPECT_EQ(std::string(model.status().message()),
            "model: \"c\" is not known (known: a, b)");
}

TEST(DiscoveryTest, SaysThatAFolderHasNoConfig) {
  ScratchFolder root;
  root.Write("a/model.safetensors", "");

  const auto model = ResolveModel(root.path(), "a");

  EXPECT_EQ(model.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Field(model.status()), "model");
  EXPECT_EQ(GetErrorDetails(model.status()).reason, "MODEL_CONFIG_MISSING");
}

TEST(DiscoveryTest, HiddenNamesAreUnknown) {
  ScratchFolder root;
  root.Write(".git/config.json", "{}");

  EXPECT_EQ(ResolveModel(root.path(), ".git").status().code(),
            absl::StatusCode::kNotFound);
}

TEST(DiscoveryTest, SaysThatTheRootIsMissingWithoutItsPath) {
  ScratchFolder root;
  const auto models = DiscoverModels(root / "nowhere");

  EXPECT_EQ(models.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(models.status().message()),
              Not(HasSubstr("nowhere")));
}

}  // namespace
}  // namespace moescope::model
