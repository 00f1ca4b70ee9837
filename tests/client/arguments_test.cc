#include "client/cli/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>


#include "moescope/base/file.h"

namespace moescope::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::StartsWith;

ParseOutcome Parse(std::initializer_list<const char*> words) {
  std::vector<const char*> argv = {"moescope"};
  argv.insert(argv.end(), words.begin(), words.end());
  return ParseArguments(static_cast<int>(argv.size()), argv.data());
}

TEST(ArgumentsTest, UnknownFlagIsWrongUsage) {
  const ParseOutcome outcome = Parse({"trace", "m", "--text", "a", "--bogus"});

  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("--bogus"));
}

TEST(ArgumentsTest, HelpIsNoError) {
  const ParseOutcome outcome = Parse({"--help"});

  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_FALSE(outcome.arguments.has_value());
  EXPECT_THAT(outcome.out, HasSubstr("similarity"));
}

TEST(ArgumentsTest, TraceTakesEmptyTextForTheServerToRefuse) {
  const ParseOutcome outcome = Parse({"trace", "m", "--text", ""});

  ASSERT_TRUE(outcome.arguments.has_value()) << outcome.err;
  EXPECT_EQ(outcome.arguments->input.text, "");
}

TEST(ArgumentsTest, TraceWithoutInputIsWrongUsage) {
  const ParseOutcome outcome = Parse({"trace", "m"});

  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("--tokens-file"));
}

TEST(ArgumentsTest, EveryAnalysisMayPassTheCacheBy) {
  EXPECT_EQ(Parse({"trace", "m", "--text", "a"}).arguments->cache_policy,
            v1::CACHE_POLICY_UNSPECIFIED);
  EXPECT_EQ(Parse({"trace", "m", "--text", "a", "--refresh"})
                .arguments->cache_policy,
            v1::CACHE_POLICY_REFRESH);
  EXPECT_EQ(Parse({"similarity", "m", "--no-cache"}).arguments->cache_policy,
            v1::CACHE_POLICY_BYPASS);
  EXPECT_EQ(Parse({"neurons", "m", "--refresh"}).arguments->cache_policy,
            v1::CACHE_POLICY_REFRESH);
  EXPECT_EQ(Parse({"analyze", "m", "x", "--no-cache"}).arguments->cache_policy,
            v1::CACHE_POLICY_BYPASS);
  const ParseOutcome both =
      Parse({"similarity", "m", "--no-cache", "--refresh"});
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_THAT(both.err, HasSubstr("--refresh"));
}

TEST(ArgumentsTest, MaskedGroupsOfATraceAreOneOfThree) {
  EXPECT_EQ(Parse({"trace", "m", "--text", "a"}).arguments->masked_groups,
            v1::MASKED_GROUPS_UNSPECIFIED);
  EXPECT_EQ(Parse({"trace", "m", "--text", "a", "--masked-groups=zero"})
                .arguments->masked_groups,
            v1::MASKED_GROUPS_ZERO);
  EXPECT_EQ(Parse({"trace", "m", "--text", "a", "--masked-groups",
                   "negative_infinity"})
                .arguments->masked_groups,
            v1::MASKED_GROUPS_NEGATIVE_INFINITY);
  const ParseOutcome unknown =
      Parse({"trace", "m", "--text", "a", "--masked-groups=one"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("negative_infinity"));
}

TEST(ArgumentsTest, PriorityIsOneOfTwo) {
  EXPECT_EQ(Parse({"analyze", "m", "x", "--priority", "interactive"})
                .arguments->priority,
            v1::PRIORITY_INTERACTIVE);
  EXPECT_EQ(
      Parse({"analyze", "m", "x", "--priority=batch"}).arguments->priority,
      v1::PRIORITY_BATCH);
  const ParseOutcome unknown = Parse({"analyze", "m", "x", "--priority=high"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("interactive"));
}

TEST(ArgumentsTest, JobsAreFilteredByStateAnalysisAndModel) {
  const ParseOutcome outcome =
      Parse({"jobs", "list", "--state", "queued,failed", "--analysis=x",
             "--model", "m"});

  ASSERT_TRUE(outcome.arguments.has_value()) << outcome.err;
  EXPECT_THAT(outcome.arguments->states,
              ElementsAre(v1::JOB_STATE_QUEUED, v1::JOB_STATE_FAILED));
  EXPECT_EQ(outcome.arguments->name, "x");
  EXPECT_EQ(outcome.arguments->model, "m");
  const ParseOutcome unknown = Parse({"jobs", "list", "--state=done"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("succeeded"));
}

TEST(ArgumentsTest, GlobalFlagsMayComeLast) {
  const ParseOutcome outcome =
      Parse({"models", "list", "--server=h:1", "--output=json"});

  ASSERT_TRUE(outcome.arguments.has_value()) << outcome.err;
  EXPECT_EQ(outcome.arguments->server, "h:1");
  EXPECT_TRUE(outcome.arguments->json);
  EXPECT_EQ(outcome.arguments->command, Command::kModelsList);
}

TEST(ArgumentsTest, SettingsKeepJsonAsItIs) {
  const ParseOutcome outcome =
      Parse({"analyze", "m", "activation_statistics", "--set",
             "thresholds=[0.1,0.2]", "--set", "block_tokens=256", "--detach"});

  ASSERT_TRUE(outcome.arguments.has_value()) << outcome.err;
  EXPECT_EQ(outcome.arguments->name, "activation_statistics");
  EXPECT_TRUE(outcome.arguments->detach);
  EXPECT_THAT(outcome.arguments->settings,
              ElementsAre(Pair("thresholds", "[0.1,0.2]"),
                          Pair("block_tokens", "256")));
}

TEST(ArgumentsTest, UnknownExtensionIsWrongUsage) {
  const ParseOutcome outcome =
      Parse({"trace", "m", "--text", "a", "-o", "t.txt"});

  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("safetensors, npz"));
}

TEST(ArgumentsTest, AnEmptyPathIsWrongUsage) {
  const ParseOutcome apart =
      Parse({"trace", "m", "--text", "a", "-o", "", "--format", "npz"});
  const ParseOutcome joined =
      Parse({"trace", "m", "--text", "a", "--output-file=", "--no-cache"});

  EXPECT_EQ(apart.exit_code, 2);
  EXPECT_THAT(apart.err, StartsWith("-o: \"\" names no file\n"));
  EXPECT_EQ(joined.exit_code, 2);
  EXPECT_THAT(joined.err, StartsWith("-o: \"\" names no file\n"));
}

TEST(ArgumentsTest, AnEmptyValueTakesNoOtherWord) {
  const ParseOutcome outcome = Parse({"trace", "--text=", "m"});

  ASSERT_TRUE(outcome.arguments.has_value()) << outcome.err;
  EXPECT_EQ(outcome.arguments->input.text, "");
  EXPECT_EQ(outcome.arguments->subject, "m");
}

TEST(ArgumentsTest, FetchNeedsAFileAndSaysSo) {
  const ParseOutcome outcome = Parse({"results", "fetch", "r"});

  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, StartsWith("--output-file is required\n"));
  EXPECT_THAT(Parse({"results", "fetch", "--help"}).out,
              HasSubstr("-o,--output-file TEXT REQUIRED"));
}

TEST(ArgumentsTest, AListIsOneWord) {
  const ParseOutcome trace =
      Parse({"trace", "--fields", "ids,weights", "m", "--text", "a"});
  const ParseOutcome similarity =
      Parse({"similarity", "--level", "matrix", "--projections=up_proj",
             "--projections", "gate_proj", "m"});

  ASSERT_TRUE(trace.arguments.has_value()) << trace.err;
  EXPECT_THAT(trace.arguments->fields, ElementsAre("ids", "weights"));
  EXPECT_EQ(trace.arguments->subject, "m");
  ASSERT_TRUE(similarity.arguments.has_value()) << similarity.err;
  EXPECT_THAT(similarity.arguments->projections,
              ElementsAre("up_proj", "gate_proj"));
  EXPECT_EQ(similarity.arguments->subject, "m");
}

TEST(ArgumentsTest, AnUnknownCommandIsNamedWithTheNearest) {
  EXPECT_EQ(Parse({"trac", "m"}).err,
            "\"trac\" is no command; there are: models trace similarity "
            "neurons analyze analyses jobs results server\n"
            "did you mean trace?\n"
            "Run with --help for more information.\n");
  EXPECT_EQ(Parse({"jobs", "follow"}).err,
            "\"follow\" is no command; there are: list show watch cancel\n"
            "Run with --help for more information.\n");
}

TEST(ArgumentsTest, TextThatLooksLikeAnOptionStandsAfterTwoDashes) {
  EXPECT_THAT(Parse({"models", "tokenize", "m", "-x"}).err,
              StartsWith("\"-x\" is no option here; a value that begins with "
                         "\"-\" stands after --\n"));
  const ParseOutcome outcome = Parse({"models", "tokenize", "m", "--", "-x="});
  ASSERT_TRUE(outcome.arguments.has_value()) << outcome.err;
  EXPECT_EQ(outcome.arguments->name, "-x=");
}

TEST(ArgumentsTest, TwoSourcesOfTokensAreWrongUsage) {
  const ParseOutcome outcome =
      Parse({"trace", "m", "--text", "a", "--tokens", "1,2"});

  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("--text"));
  EXPECT_THAT(outcome.err, HasSubstr("--tokens"));
}

TEST(ArgumentsTest, CorporaMayBeSeveralButAlone) {
  EXPECT_TRUE(Parse({"neurons", "m", "--corpus", "a=f", "--corpus", "b=g"})
                  .arguments.has_value());
  EXPECT_EQ(Parse({"neurons", "m", "--corpus", "a=f", "--file", "g"}).exit_code,
            2);
}

TEST(ArgumentsTest, FormatWithoutAFileIsWrongUsage) {
  const ParseOutcome outcome =
      Parse({"trace", "m", "--text", "a", "--format", "npz"});

  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("--output-file"));
}

TEST(ArgumentsTest, DetachedJobWritesNoFile) {
  const ParseOutcome outcome =
      Parse({"analyze", "m", "n", "--detach", "-o", "x.npz"});

  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("--detach"));
}

TEST(ArgumentsTest, AServerIsHostAndPort) {
  EXPECT_TRUE(Parse({"models", "list", "--server", "[::1]:50051"})
                  .arguments.has_value());
  EXPECT_THAT(
      Parse({"models", "list", "--server", "127.0.0.1:99999"}).err,
      HasSubstr("--server: \"127.0.0.1:99999\" is not HOST:PORT"));
  EXPECT_THAT(Parse({"models", "list", "--server", "127.0.0.1"}).err,
              HasSubstr("--server: \"127.0.0.1\" is not HOST:PORT"));
  EXPECT_THAT(Parse({"models", "list", "--server", "http://h:1"}).err,
              HasSubstr("--server: \"http://h:1\" is not HOST:PORT"));
  EXPECT_THAT(Parse({"models", "list", "--server", "::1:5"}).err,
              HasSubstr("is not HOST:PORT"));
  const ParseOutcome empty = Parse({"--server=", "models", "list"});
  EXPECT_EQ(empty.exit_code, 2);
  EXPECT_THAT(empty.err, StartsWith("--server: \"\" is not HOST:PORT\n"));
}

TEST(ArgumentsTest, WrongNumbersAreNamedOnceAndInShort) {
  EXPECT_THAT(Parse({"models", "list", "--timeout", "abc"}).err,
              StartsWith("--timeout: \"abc\" is no number of seconds\n"));
  EXPECT_THAT(Parse({"trace", "m", "--text", "a", "--layers", "x"}).err,
              StartsWith("--layers: \"x\" is neither"));
}

TEST(ArgumentsTest, WhatWouldChangeNothingIsRefused) {
  EXPECT_THAT(Parse({"similarity", "m", "--level", "router", "--projections",
                     "gate_proj"})
                  .err,
              HasSubstr("--projections: "));
  EXPECT_THAT(Parse({"similarity", "m", "--level", "router", "--shared"}).err,
              HasSubstr("--shared: "));
  EXPECT_THAT(
      Parse({"trace", "m", "--text", "a", "--sequence-tokens", "8"}).err,
      HasSubstr("--sequence-tokens: "));
}

TEST(ArgumentsTest, ParametersWithNamesOfOneLengthAreDifferent) {
  const ParseOutcome outcome =
      Parse({"analyze", "m", "n", "--set", "thresholds=[1]", "--set",
             "top_tokens=2"});

  ASSERT_TRUE(outcome.arguments.has_value()) << outcome.err;
  EXPECT_THAT(outcome.arguments->settings,
              ElementsAre(Pair("thresholds", "[1]"), Pair("top_tokens", "2")));
}

TEST(ArgumentsTest, AParameterIsGivenOnce) {
  EXPECT_THAT(Parse({"analyze", "m", "n", "--set", "model=\"x\""}).err,
              HasSubstr("--set: model is the argument MODEL"));
  EXPECT_THAT(Parse({"analyze", "m", "n", "--set", "a=1", "--set", "a=2"}).err,
              HasSubstr("--set: \"a\" is given twice"));
  EXPECT_THAT(
      Parse({"analyze", "m", "n", "--set", "level=1", "--set", "levels=2"}).err,
      HasSubstr("is given twice"));
  EXPECT_THAT(Parse({"analyze", "m", "n", "--set", "baseline=\"x\"",
                     "--baseline", "y"})
                  .err,
              HasSubstr("--set: baseline excludes --baseline"));
}

TEST(LayersTest, AreNumbersAndRanges) {
  EXPECT_THAT(*ParseLayers("0,3-5"), ElementsAre(0, 3, 4, 5));
}

TEST(LayersTest, ABackwardRangeIsRefused) {
  const auto layers = ParseLayers("5-3");

  EXPECT_EQ(layers.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(layers.status().message()), HasSubstr("\"5-3\""));
}

TEST(TokensTest, AreSeparatedByCommasOrSpaces) {
  EXPECT_THAT(ParseTokens("1,2 3")->ids(), ElementsAre(1, 2, 3));
}

TEST(TokensTest, BlankIsNone) { EXPECT_EQ(ParseTokens(" ")->ids_size(), 0); }

TEST(TokensTest, ACommaTooManyIsRefused) {
  EXPECT_EQ(ParseTokens("1,,2").status().message(), "\"\" is no token id");
  EXPECT_EQ(ParseTokens("1, ").status().message(), "\"\" is no token id");
  EXPECT_EQ(ParseTokens("1 ,  2")->ids_size(), 2);
}

TEST(InputTest, TextIsOneSequenceAndTokensAreAnother) {
  InputArguments arguments;
  arguments.text = "a";
  arguments.tokens = "1,2";

  const auto input = BuildInput(arguments);

  ASSERT_EQ(input->documents_size(), 2);
  EXPECT_FALSE(input->documents(0).cut());
  EXPECT_THAT(input->documents(1).tokens().ids(), ElementsAre(1, 2));
}

TEST(InputTest, ACorpusIsCutAndLabelled) {
  InputArguments arguments;
  arguments.corpora = {"code=" MOESCOPE_SOURCE_DIR "/CMakeLists.txt"};

  const auto input = BuildInput(arguments);

  ASSERT_EQ(input->documents_size(), 1);
  EXPECT_EQ(input->documents(0).label(), "code");
  EXPECT_TRUE(input->documents(0).cut());
}

TEST(InputTest, AMissingFileIsNamedWithItsFlag) {
  InputArguments arguments;
  arguments.file = "/nowhere/text";

  EXPECT_EQ(BuildInput(arguments).status().message(),
            "--file: /nowhere/text: No such file or directory");
}

TEST(InputTest, AFolderIsNoText) {
  InputArguments arguments;
  arguments.corpora = {"a=/"};

  const absl::Status status = BuildInput(arguments).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "--corpus: \"/\" is a folder");
}

TEST(InputTest, AByteThatIsNotUtf8IsNamedByItsOffset) {
  InputArguments arguments;
  arguments.text = "caf\xe9!";

  const absl::Status status = BuildInput(arguments).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "--text: byte 3 of 5 is not UTF-8");
}

TEST(InputTest, AFileThatIsNotUtf8IsNamedWithFlagAndOffset) {
  InputArguments file;
  file.file = ::testing::TempDir() + "moescope_not_utf8";
  ASSERT_TRUE(WriteFileAtomically(*file.file, "ab\xff").ok());
  InputArguments corpus;
  corpus.corpora = {"a=" + *file.file};
  InputArguments tokens;
  tokens.tokens_file = *file.file;

  const std::string wrong =
      ": \"" + *file.file + "\": byte 2 of 3 is not UTF-8";
  EXPECT_EQ(BuildInput(file).status().message(), "--file" + wrong);
  EXPECT_EQ(BuildInput(corpus).status().message(), "--corpus" + wrong);
  EXPECT_EQ(BuildInput(tokens).status().message(), "--tokens-file" + wrong);
}

}  // namespace
}  // namespace moescope::client
