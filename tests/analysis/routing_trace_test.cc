#include "moescope/analysis/routing_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/analysis/analysis_testing.h"

namespace moescope::analysis {
namespace {

using testing::ElementsAre;

// Margins in these texts are at least 1e-5, so ids must be equal. The rest is
// bounded as in tests/model/forward_testing.cc, unscaled; the largest deviation
// seen is 7e-6, of a logit of 12.
constexpr Tolerance kTrace = {2e-5, 1e-4, 0, 0};

spec::RoutingTraceSpec Ask(const std::string& model, const std::string& text) {
  spec::RoutingTraceSpec spec;
  spec.model = model;
  spec.input = ExpectedInput(model, text);
  return spec;
}

// Sequences of 40, 30, 50, 100 and 36 tokens: blocks of at most 64 tokens are
// 40, 30, 50, 100, 36; of at most 128: 120, 100 and 36.
spec::RoutingTraceSpec AskInBlocks(std::int64_t block_tokens) {
  spec::RoutingTraceSpec spec = Ask("tiny-mixtral", "prose");
  spec.input.lengths = {40, 30, 50, 100, 36};
  spec.layers = {0, 5};
  spec.block_tokens = block_tokens;
  return spec;
}

TEST(RoutingTraceTest, EqualsTheReferenceOfAMixtral) {
  spec::RoutingTraceSpec asked = Ask("tiny-mixtral", "prose");
  asked.fields = {"ids", "weights", "logits", "scores", "margin", "entropy"};
  const spec::AnalysisSpec spec = Normalised(asked);

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  int compared = 0;
  EXPECT_EQ(Compare("tiny-mixtral", "routing_trace/prose", {""}, log, kTrace,
                    &compared),
            "");
  EXPECT_EQ(compared, 6 * 6);
  EXPECT_EQ(SchemaProblem(spec, log), "");
}

TEST(RoutingTraceTest, EqualsTheReferenceOfAModelWithSharedExperts) {
  spec::RoutingTraceSpec asked = Ask("tiny-deepseek", "prose");
  asked.fields = {"ids",     "weights", "logits",      "scores",
                  "margin",  "entropy", "shared_share"};
  const spec::AnalysisSpec spec = Normalised(asked);

  const Log log = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  int compared = 0;
  EXPECT_EQ(Compare("tiny-deepseek", "routing_trace/prose", {""}, log, kTrace,
                    &compared),
            "");
  EXPECT_EQ(compared, 4 * 7);
  EXPECT_EQ(SchemaProblem(spec, log), "");
}

TEST(RoutingTraceTest, StartsEveryBlockWithItsTokens) {
  const Log log = RunSpec(Normalised(AskInBlocks(128)));

  ASSERT_TRUE(log.status.ok()) << log.status;
  ASSERT_EQ(log.chunks.size(), 9U);
  EXPECT_EQ(log.chunks[0].arrays[0].name, "input_ids");
  EXPECT_THAT(spec::ToDoubles(log.chunks[0].arrays[1]),
              ElementsAre(40, 30, 50));
  EXPECT_THAT(spec::ToDoubles(log.chunks[3].arrays[1]), ElementsAre(100));
  EXPECT_THAT(spec::ToDoubles(log.chunks[6].arrays[1]), ElementsAre(36));
  EXPECT_EQ(log.chunks[7].arrays[0].name, "layer.0.topk_ids");
  EXPECT_THAT(log.chunks[7].arrays[0].shape, ElementsAre(36, 2));
  EXPECT_EQ(log.chunks[8].arrays[0].name, "layer.5.topk_ids");
}

TEST(RoutingTraceTest, KeepsASequenceLongerThanABlockWhole) {
  const Log log = RunSpec(Normalised(AskInBlocks(64)));

  ASSERT_EQ(log.chunks.size(), 15U);
  EXPECT_THAT(spec::ToDoubles(log.chunks[9].arrays[1]), ElementsAre(100));
}

TEST(RoutingTraceTest, GivesTheSameBytesForAnyNumberOfThreads) {
  spec::RoutingTraceSpec asked = Ask("tiny-deepseek", "prose");
  asked.fields = {"ids",     "weights", "logits",      "scores",
                  "margin",  "entropy", "shared_share"};
  const spec::AnalysisSpec spec = Normalised(asked);

  EXPECT_EQ(Images(RunSpec(spec, {1, {}, -1})),
            Images(RunSpec(spec, {2, {}, -1})));
}

TEST(RoutingTraceTest, ResumesAtBlocksAndInsideThem) {
  const spec::AnalysisSpec spec = Normalised(AskInBlocks(128));
  const Log whole = RunSpec(spec);
  ASSERT_EQ(whole.chunks.size(), 9U);

  EXPECT_EQ(Images(RunSpec(spec, {1, {1, ""}, -1})), Images(whole, 1));
  EXPECT_EQ(Images(RunSpec(spec, {1, {3, ""}, -1})), Images(whole, 3));
  EXPECT_EQ(Images(RunSpec(spec, {1, {5, ""}, -1})), Images(whole, 5));
  EXPECT_EQ(Images(RunSpec(spec, {1, {8, ""}, -1})), Images(whole, 8));
  EXPECT_TRUE(RunSpec(spec, {1, {9, ""}, -1}).chunks.empty());
  // Of the first two blocks nothing is said.
  EXPECT_GT(RunSpec(spec, {1, {8, ""}, -1}).reported.front(), 220);
}

TEST(RoutingTraceTest, StopsInsideABlockWhenCancelled) {
  const Log log = RunSpec(Normalised(AskInBlocks(128)), {1, {}, 2});

  EXPECT_EQ(log.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(log.chunks.size(), 2U);
}

}  // namespace
}  // namespace moescope::analysis
