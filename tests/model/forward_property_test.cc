#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/model/forward_testing.h"

namespace moescope::model {
namespace {

using Values = std::map<std::string, at::Tensor>;

Values Only(const Values& values, const std::vector<std::string>& names) {
  Values some;
  for (const std::string& name : names) {
    some[name] = values.at(name);
  }
  return some;
}

// Each token's values must be the same wherever its sequence lies.
Values RunAlone(const Model& model, const Sequences& packed, std::size_t index,
                std::int64_t begin) {
  Sequences alone;
  alone.lengths = {packed.lengths[index]};
  alone.ids.assign(packed.ids.begin() + begin,
                   packed.ids.begin() + begin + packed.lengths[index]);
  return RunForward(model, alone, RequestAll(model), 1);
}

class ForwardPropertyTest : public testing::TestWithParam<const char*> {
 protected:
  ForwardPropertyTest() : model_(LoadTestModel(GetParam())) {}
  std::int64_t vocabulary() const {
    return model_->checkpoint().config().vocab_size;
  }
  std::shared_ptr<const Model> model_;
};

TEST_P(ForwardPropertyTest, GivesTheSameBytesForAnyNumberOfThreads) {
  const Sequences sequences = MakeSequences({60, 1, 35, 50, 64}, vocabulary());
  const ForwardRequest request = RequestAll(*model_);

  const Values one = RunForward(*model_, sequences, request, 1);

  EXPECT_EQ(FirstDifference(one, RunForward(*model_, sequences, request, 2)),
            "");
  EXPECT_EQ(FirstDifference(one, RunForward(*model_, sequences, request, 5)),
            "");
}

TEST_P(ForwardPropertyTest, GivesTheSameBytesBesideOtherPasses) {
  const Sequences sequences = MakeSequences({40, 30}, vocabulary());
  const ForwardRequest request = RequestAll(*model_);
  const Values alone = RunForward(*model_, sequences, request, 1);
  Values first;
  Values second;

  std::thread other(
      [&] { second = RunForward(*model_, sequences, request, 2); });
  first = RunForward(*model_, sequences, request, 2);
  other.join();

  EXPECT_EQ(FirstDifference(alone, first), "");
  EXPECT_EQ(FirstDifference(alone, second), "");
}

TEST_P(ForwardPropertyTest, APackedSequenceIsAsAlone) {
  const Sequences packed = MakeSequences({30, 1, 64, 13}, vocabulary());

  const Values all = RunForward(*model_, packed, RequestAll(*model_), 2);

  ExpectSame(RowsOf(all, 0, 30), RunAlone(*model_, packed, 0, 0));
  ExpectSame(RowsOf(all, 30, 1), RunAlone(*model_, packed, 1, 30));
  ExpectSame(RowsOf(all, 31, 64), RunAlone(*model_, packed, 2, 31));
  ExpectSame(RowsOf(all, 95, 13), RunAlone(*model_, packed, 3, 95));
}

TEST_P(ForwardPropertyTest, SwappingSequencesSwapsTheirRows) {
  const Sequences sequences = MakeSequences({50, 21}, vocabulary());
  Sequences swapped;
  swapped.ids.assign(sequences.ids.begin() + 50, sequences.ids.end());
  swapped.ids.insert(swapped.ids.end(), sequences.ids.begin(),
                     sequences.ids.begin() + 50);
  swapped.lengths = {21, 50};

  const Values here = RunForward(*model_, sequences, RequestAll(*model_), 2);
  const Values there = RunForward(*model_, swapped, RequestAll(*model_), 2);

  ExpectSame(RowsOf(here, 0, 50), RowsOf(there, 21, 50));
  ExpectSame(RowsOf(here, 50, 21), RowsOf(there, 0, 21));
}

TEST_P(ForwardPropertyTest, AContinuationLeavesThePrefixAsItIs) {
  const Sequences whole = MakeSequences({64}, vocabulary());
  Sequences prefix;
  prefix.ids.assign(whole.ids.begin(), whole.ids.begin() + 20);
  prefix.lengths = {20};

  const Values longer = RunForward(*model_, whole, RequestAll(*model_), 2);
  const Values shorter = RunForward(*model_, prefix, RequestAll(*model_), 2);

  EXPECT_EQ(FirstDifference(RowsOf(longer, 0, 20), shorter), "");
}

INSTANTIATE_TEST_SUITE_P(AllFamilies, ForwardPropertyTest,
                         testing::Values("fixtures/mixtral",
                                         "fixtures/mixtral_swa",
                                         "fixtures/mixtral_bf16",
                                         "fixtures/deepseek",
                                         "fixtures/deepseek_v3",
                                         "fixtures/olmoe",
                                         "fixtures/qwen3_moe_sparse_step",
                                         "fixtures/gpt_oss",
                                         "fixtures/llama4_text",
                                         "fixtures/mistral"));

// Long enough for several blocks of rows, tiles of queries and odd widths.
class ForwardTest : public testing::Test {
 protected:
  ForwardTest() : model_(LoadTestModel("models/tiny-deepseek")) {}
  std::shared_ptr<const Model> model_;
};

TEST_F(ForwardTest, SequencesOfSeveralBlocksAreAsAlone) {
  const Sequences packed = MakeSequences({700, 3, 500, 130}, 2048);

  const Values all = RunForward(*model_, packed, RequestAll(*model_), 2);

  ExpectSame(RowsOf(all, 703, 500), RunAlone(*model_, packed, 2, 703));
  ExpectSame(RowsOf(all, 1203, 130), RunAlone(*model_, packed, 3, 1203));
}

TEST_F(ForwardTest, AllExpertsLeaveRoutingAndResidualAsTheyAre) {
  const Sequences sequences = MakeSequences({700, 500}, 2048);
  ForwardRequest request = RequestAll(*model_);
  const Values with = RunForward(*model_, sequences, request, 2);
  request.all_experts = false;

  const Values without = RunForward(*model_, sequences, request, 2);

  const std::vector<std::string> names = {"layer.1.routed_output",
                                          "layer.1.output",
                                          "layer.4.router_logits",
                                          "layer.4.topk_ids",
                                          "layer.4.routed_output",
                                          "layer.4.output",
                                          "logits"};
  ExpectSame(Only(with, names), Only(without, names));
  EXPECT_EQ(without.count("layer.4.expert_outputs"), 0U);
}

TEST_F(ForwardTest, TheRoutedOutputIsTheWeightedSumOfTheChosenOutputs) {
  const Sequences sequences = MakeSequences({70}, 2048);

  const Values shown = RunForward(*model_, sequences, RequestAll(*model_), 1);

  const at::Tensor ids = shown.at("layer.2.topk_ids");            // [T, K]
  const at::Tensor outputs = shown.at("layer.2.expert_outputs");  // [E, T, D]
  const at::Tensor chosen =
      outputs.transpose(0, 1).gather(1, ids.unsqueeze(2).expand({70, 4, 128}));
  const at::Tensor sum =
      (chosen.to(at::kDouble) *
       shown.at("layer.2.topk_weights").to(at::kDouble).unsqueeze(2))
          .sum(1);
  // Four products and three sums in fp32: at most 7 roundings of values below
  // the largest sum of magnitudes.
  const double bound = 7 * 6e-8 * chosen.abs().sum(1).max().item<double>();
  EXPECT_LE(
      (shown.at("layer.2.routed_output") - sum).abs().max().item<double>(),
      bound);
}

TEST_F(ForwardTest, ShowsWantedLayersOnly) {
  ForwardRequest request;
  request.layers = {2, 3};

  const Values shown =
      RunForward(*model_, MakeSequences({9}, 2048), request, 1);

  EXPECT_EQ(shown.count("layer.1.router_logits"), 0U);
  EXPECT_EQ(shown.count("layer.2.router_logits"), 1U);
  EXPECT_EQ(shown.count("layer.3.router_logits"), 1U);
  EXPECT_EQ(shown.count("layer.3.output"), 0U);
  EXPECT_EQ(shown.count("logits"), 0U);
}

TEST_F(ForwardTest, ALastLayerWithoutOutputsShowsItsExpertsAllTheSame) {
  const Sequences sequences = MakeSequences({33}, 2048);
  ForwardRequest request;
  request.layers = {2};
  request.all_experts = true;

  const Values some = RunForward(*model_, sequences, request, 2);
  const Values all = RunForward(*model_, sequences, RequestAll(*model_), 2);

  ExpectSame(Only(some, {"layer.2.expert_outputs"}),
             Only(all, {"layer.2.expert_outputs"}));
}

}  // namespace
}  // namespace moescope::model
