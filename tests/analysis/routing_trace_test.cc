#include "moescope/analysis/routing_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "tests/analysis/analysis_testing.h"
#include "tests/testing/scratch_folder.h"

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

// Makes the first float32 of a copy's tensor a NaN and loads the copy.
ModelInputs LoadSpoiled(const ScratchFolder& scratch,
                        const std::string& tensor) {
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "model");
  const auto whole = *model::Checkpoint::Open(folder);
  const auto& file = whole->weight_files()[0];
  std::fstream bytes(file->path(),
                     std::ios::in | std::ios::out | std::ios::binary);
  const void* const data = whole->FindTensor(tensor)->data;
  bytes.seekp(static_cast<const char*>(data) - file->bytes().data());
  bytes.write("\0\0\xc0\x7f", 4);
  bytes.close();
  return LoadInputs(*model::Checkpoint::Open(folder));
}

TEST(RoutingTraceTest, CountsTokensWhoseLogitsAreNotFinite) {
  // A NaN in the embedding of token 0: that of the first of two blocks.
  spec::RoutingTraceSpec asked;
  asked.model = "mixtral";
  asked.input = {{0, 1, 2}, {3, 64}, {}};
  asked.input.ids.resize(67, 7);
  asked.block_tokens = 64;
  const spec::AnalysisSpec spec = Normalised(asked);
  const ScratchFolder scratch;

  const Log log =
      RunOn(LoadSpoiled(scratch, "model.embed_tokens.weight"), spec);
  const Log sound = RunSpec(spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  const auto arrays = Join(log);
  EXPECT_THAT(spec::ToDoubles(arrays.at("layer.0.nonfinite")), ElementsAre(3));
  EXPECT_THAT(spec::ToDoubles(arrays.at("layer.1.nonfinite")), ElementsAre(3));
  EXPECT_EQ(SchemaProblem(spec, log), "");
  ASSERT_TRUE(sound.status.ok()) << sound.status;
  EXPECT_EQ(Join(sound).count("layer.0.nonfinite"), 0U);
}

TEST(RoutingTraceTest, CountsThemWhateverTheFieldsFromTheSpoiledLayerOn) {
  spec::RoutingTraceSpec asked;
  asked.model = "mixtral";
  asked.input = {{4, 5, 6, 7}, {2, 2}, {}};
  asked.fields = {"margin"};
  const spec::AnalysisSpec spec = Normalised(asked);
  const ScratchFolder scratch;

  const Log log = RunOn(
      LoadSpoiled(scratch, "model.layers.1.block_sparse_moe.gate.weight"),
      spec);

  ASSERT_TRUE(log.status.ok()) << log.status;
  const auto arrays = Join(log);
  EXPECT_EQ(arrays.count("layer.0.nonfinite"), 0U);
  EXPECT_THAT(spec::ToDoubles(arrays.at("layer.1.nonfinite")), ElementsAre(4));
}

}  // namespace
}  // namespace moescope::analysis
