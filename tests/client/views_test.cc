#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "client/cli/commands.h"
#include "client/cli/heat_map.h"
#include "client/cli/progress.h"
#include "client/cli/result_view.h"
#include "client/cli/table.h"
#include "client/cli/views.h"

namespace moescope::client {
namespace {

TEST(TableTest, AlignsColumnsByCharactersNotBytes) {
  Table table({"a", "b"});
  table.Add({"é", "x"});
  table.Add({"long", "y"});

  EXPECT_EQ(table.Text(), "a     b\né     x\nlong  y\n");
}

TEST(HeatMapTest, PlainMapShowsShadesNumbersAndRange) {
  const std::vector<std::string> names = {"0", "1", "2"};
  const std::vector<double> values = {1, 0.2, 0.6, 0.2, 1, 0.4, 0.6, 0.4, 1};

  EXPECT_EQ(HeatMap(names, values, true),
            "         0        1        2\n"
            "0 ##  1.00 ..  0.20 ##  0.60\n"
            "1 ..  0.20 ##  1.00 ++  0.40\n"
            "2 ##  0.60 ++  0.40 ##  1.00\n"
            "off the diagonal: .. 0.2000, ## 0.6000\n");
}

TEST(ProgressTest, TellsShareRateAndTimeLeft) {
  v1::Job job;
  job.set_state(v1::JOB_STATE_RUNNING);
  job.mutable_progress()->set_stage("forward");
  job.mutable_progress()->set_done(512);
  job.mutable_progress()->set_total(2048);
  job.mutable_progress()->set_unit("tokens");
  job.mutable_progress()->set_eta_seconds(8);

  EXPECT_EQ(ProgressText(job), "forward 512/2048 tokens, 192/s, 8 s left");
}

TEST(ProgressTest, TellsOfAnEndWhatItCameFrom) {
  v1::Job job;
  job.set_state(v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(WatchText(job), "cancelled");
  job.set_state(v1::JOB_STATE_RUNNING);
  EXPECT_EQ(WatchText(job), "running: starting");
  job.set_state(v1::JOB_STATE_SUCCEEDED);
  job.set_from_cache(true);
  EXPECT_EQ(WatchText(job), "succeeded: answered from the cache");
}

TEST(TableTest, QuotesWithinATokenAreEscaped) {
  EXPECT_EQ(QuotedToken("\""), R"("\"")");
  EXPECT_EQ(QuotedToken("\n"), R"("\n")");
}

TEST(TableTest, WhatTheServerHasEscapedStaysAsItIs) {
  EXPECT_EQ(QuotedToken(R"(\\)"), R"("\\")");
  EXPECT_EQ(QuotedToken(R"(\xC3)"), R"("\xC3")");
}

TEST(ProgressTest, TellsThePlaceInTheQueue) {
  v1::Job job;
  job.set_state(v1::JOB_STATE_QUEUED);
  job.set_queue_position(3);
  EXPECT_EQ(ProgressText(job), "queued, 3 before");
  job.mutable_progress()->set_eta_seconds(11.5);
  EXPECT_EQ(ProgressText(job), "queued, 3 before, about 12 s");
}

TEST(VerdictTest, TellsWhatTheHashesHaveShown) {
  v1::Job job;
  job.mutable_start_time()->set_seconds(1'700'000'000);
  v1::Model model;
  model.set_weight_files(2);
  model.set_size_bytes(3 << 20);
  EXPECT_EQ(VerdictText(job, model),
            "verified: 2 files, 3.0 MiB, each as its name in the Hugging Face "
            "cache says\n");

  model.mutable_hash_time()->set_seconds(1'699'999'999);
  EXPECT_EQ(VerdictText(job, model),
            "verified: 2 files, 3.0 MiB, unchanged since 2023-11-14 22:13:19 "
            "UTC\n");

  model.set_weight_files(1);
  model.mutable_hash_time()->set_seconds(1'700'000'000);
  EXPECT_EQ(VerdictText(job, model),
            "hashed for the first time as they are now: 1 file, 3.0 MiB\n");
}

TEST(TraceTextTest, ShowsWordsExpertsAndWeights) {
  const std::vector<std::int64_t> ids = {5, 6};
  const std::vector<std::int64_t> experts = {1, 0, 2, 3};
  const std::vector<float> weights = {0.75f, 0.25f, 0.5f, 0.5f};
  const std::vector<spec::Array> arrays = {
      spec::MakeArray("input_ids", {2}, absl::MakeConstSpan(ids)),
      spec::MakeArray("layer.3.topk_ids", {2, 2}, absl::MakeConstSpan(experts)),
      spec::MakeArray("layer.3.topk_weights", {2, 2},
                      absl::MakeConstSpan(weights))};
  std::vector<v1::Token> tokens(1);
  tokens[0].set_text(" As\n");

  EXPECT_EQ(TraceText(arrays, tokens),
            "pos  id  token    layer 3\n"
            "0    5   \" As\\n\"  1:0.75 0:0.25\n"
            "1    6            2:0.50 3:0.50\n");
}

TEST(TraceTextTest, NamesWhatHasNoColumn) {
  const std::vector<std::int64_t> ids = {5};
  const std::vector<std::int64_t> experts = {1};
  const std::vector<float> reals = {0.75f};
  const auto real = absl::MakeConstSpan(reals);
  const std::vector<spec::Array> arrays = {
      spec::MakeArray("input_ids", {1}, absl::MakeConstSpan(ids)),
      spec::MakeArray("layer.0.topk_ids", {1, 1}, absl::MakeConstSpan(experts)),
      spec::MakeArray("layer.0.margin", {1}, real),
      spec::MakeArray("layer.0.attention_topk_weights", {1, 1}, real),
      spec::MakeArray("layer.1.topk_ids", {1, 1}, absl::MakeConstSpan(experts)),
      spec::MakeArray("layer.1.topk_weights", {1, 1}, real),
      spec::MakeArray("layer.1.margin", {1}, real)};

  EXPECT_EQ(TraceText(arrays, {}),
            "pos  id  token  layer 0  layer 1\n"
            "0    5          1        1:0.75\n"
            "not shown: margin, attention_topk_weights; write all with -o\n");
}

TEST(TraceTextTest, SaysHowManyChoicesHangOnTheMaskOfGroups) {
  const std::vector<std::int64_t> ids = {5, 6, 7};
  const std::vector<std::int64_t> experts = {1, 2, 3};
  const std::vector<std::int64_t> of_blocks = {1, 0};
  const std::vector<std::int64_t> of_others = {2, 1};
  const std::vector<spec::Array> arrays = {
      spec::MakeArray("input_ids", {3}, absl::MakeConstSpan(ids)),
      spec::MakeArray("layer.1.topk_ids", {3, 1}, absl::MakeConstSpan(experts)),
      spec::MakeArray("layer.1.tokens_by_mask", {2},
                      absl::MakeConstSpan(of_blocks)),
      spec::MakeArray("layer.2.topk_ids", {3, 1}, absl::MakeConstSpan(experts)),
      spec::MakeArray("layer.2.tokens_by_mask", {2},
                      absl::MakeConstSpan(of_others))};

  EXPECT_EQ(TraceText(arrays, {}),
            "pos  id  token  layer 1  layer 2\n"
            "0    5          1        1\n"
            "1    6          2        2\n"
            "2    7          3        3\n"
            "masked groups: 4 of 6 choices (tokens times layers) would be of "
            "other experts if those compared as 0 instead of -infinity, or the "
            "other way round\n");
}

TEST(ProvenanceStringsTest, NameHowTheRoutersChoose) {
  v1::Result result;
  result.mutable_provenance()->set_routing("softmax over 8, top-2");

  EXPECT_EQ(ProvenanceStrings(result, "a.").at("a.routing"),
            "softmax over 8, top-2");
  EXPECT_EQ(ProvenanceStrings(v1::Result(), "").count("routing"), 0U);
}

TEST(ArraysTextTest, WholeNumbersHaveNoMean) {
  const std::vector<std::int64_t> experts = {7, 0, 3};
  const std::vector<double> scores = {0.5, 1.5};
  const std::vector<spec::Array> arrays = {
      spec::MakeArray("topk_ids", {3}, absl::MakeConstSpan(experts)),
      spec::MakeArray("scores", {2}, absl::MakeConstSpan(scores))};

  EXPECT_EQ(ArraysText(arrays),
            "array     type     shape  smallest .. mean .. largest\n"
            "topk_ids  int64    [3]    0 .. 7\n"
            "scores    float64  [2]    0.5 .. 1 .. 1.5\n");
}

TEST(TraceTextTest, PositionsBeginAgainInEachSequence) {
  const std::vector<std::int64_t> ids = {5, 6, 7};
  const std::vector<std::int64_t> lengths = {2, 1};
  const std::vector<std::int64_t> experts = {1, 2, 3};
  const std::vector<spec::Array> arrays = {
      spec::MakeArray("input_ids", {3}, absl::MakeConstSpan(ids)),
      spec::MakeArray("sequence_lengths", {2}, absl::MakeConstSpan(lengths)),
      spec::MakeArray("layer.0.topk_ids", {3, 1},
                      absl::MakeConstSpan(experts))};

  EXPECT_EQ(TraceText(arrays, {}),
            "seq  pos  id  token  layer 0\n"
            "0    0    5          1\n"
            "0    1    6          2\n"
            "1    0    7          3\n");
}

TEST(TraceTextTest, TheAttentionsRouterHasAColumnBesideItsLayers) {
  const std::vector<std::int64_t> ids = {5};
  const std::vector<std::int64_t> experts = {1};
  const std::vector<std::int64_t> heads = {4};
  const std::vector<float> weights = {0.75f};
  const auto chosen = absl::MakeConstSpan(heads);
  const std::vector<spec::Array> arrays = {
      spec::MakeArray("input_ids", {1}, absl::MakeConstSpan(ids)),
      spec::MakeArray("layer.1.attention_topk_ids", {1, 1}, chosen),
      spec::MakeArray("layer.0.attention_topk_ids", {1, 1}, chosen),
      spec::MakeArray("layer.0.attention_topk_weights", {1, 1},
                      absl::MakeConstSpan(weights)),
      spec::MakeArray("layer.0.topk_ids", {1, 1},
                      absl::MakeConstSpan(experts))};

  EXPECT_EQ(TraceText(arrays, {}),
            "pos  id  token  layer 0  layer 0 attention  layer 1 attention\n"
            "0    5          1        4:0.75             4\n");
}

TEST(SimilarityTest, SaysWhereAParticipantIsLeftOut) {
  v1::ComputeExpertSimilarityResponse response;
  v1::ExpertSimilarityLayer& layer = *response.add_layers();
  v1::SimilarityMatrix& matrix = *layer.add_matrices();
  matrix.set_level("matrix");
  matrix.add_participants("0");
  v1::SimilarityMatrix& average = *layer.add_matrices();
  average.set_level("neuron_average");
  average.add_participants("0");
  average.add_participants("S");

  EXPECT_EQ(LeftOutText(response, "S"),
            "S left out: matrix (its shape is not an expert's)\n");
}

TEST(MessageTextTest, NoIsAnAnswer) {
  v1::SubmitAnalysisResponse response;
  response.set_spec_json("{}");

  EXPECT_EQ(MessageText(response), "cached: no\nspec_json: {}\n");
}

TEST(MessageTextTest, ACodeIsAName) {
  v1::Model model;
  model.mutable_error()->set_code(15);

  EXPECT_EQ(MessageText(model),
            "error:\n  code: DATA_LOSS\nforward_pass: no\n");
}

TEST(EstimateTextTest, SetsNeededAgainstAvailable) {
  v1::EstimateModelResponse response;
  response.set_device("cpu");
  response.set_weight_bytes(std::int64_t{3} << 20);
  response.set_workspace_bytes(std::int64_t{1} << 20);
  response.set_budget_bytes(std::int64_t{2} << 20);

  EXPECT_EQ(EstimateText(response),
            "device: cpu\n"
            "needed: 4.0 MiB (weights 3.0 MiB, workspace 1.0 MiB)\n"
            "available: 0 B of 2.0 MiB\n"
            "fits: no\nevictions: none\nloaded: no\n");
}

TEST(FailureTextTest, WrongUsageTakesOneLineWithoutAdvice) {
  EXPECT_EQ(FailureText(UsageError(absl::InvalidArgumentError("--file: x"))),
            "error: --file: x\n");
}

TEST(ExitCodeTest, TellsInterruptionUsageAndFailureApart) {
  EXPECT_EQ(ExitCode(absl::OkStatus(), false), 0);
  EXPECT_EQ(ExitCode(absl::NotFoundError("x"), false), 1);
  EXPECT_EQ(ExitCode(UsageError(absl::InvalidArgumentError("x")), false), 2);
  EXPECT_EQ(ExitCode(absl::CancelledError("x"), true), 130);
}

}  // namespace
}  // namespace moescope::client
