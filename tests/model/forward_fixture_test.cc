#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/model/forward_testing.h"

namespace moescope::model {
namespace {

// A checkpoint, where its reference lies, and how many tensors of it a pass
// shows (so that a misspelt name cannot pass unnoticed).
struct Fixture {
  const char* checkpoint;
  const char* reference;
  int num_compared;
};

std::string Name(const testing::TestParamInfo<Fixture>& info) {
  return info.param.checkpoint;
}

Sequences IdsOf(const std::map<std::string, at::Tensor>& reference) {
  Sequences sequences;
  const at::Tensor ids = reference.at("input_ids");
  const auto* data = ids.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    sequences.ids.push_back(static_cast<std::int32_t>(data[i]));
  }
  sequences.lengths = {ids.numel()};
  return sequences;
}

std::string CompareFixture(const Fixture& fixture, const std::string& file,
                           int* compared) {
  const auto reference = ReadReference(
      TestData("fixtures/" + std::string(fixture.reference) + "/" + file), "");
  const auto model =
      LoadTestModel("fixtures/" + std::string(fixture.checkpoint));
  const auto shown =
      RunForward(*model, IdsOf(reference), RequestAll(*model), 2);
  return CompareToReference(reference, shown, Bound::kFixtures, compared);
}

class ForwardFixtureTest : public testing::TestWithParam<Fixture> {};

TEST_P(ForwardFixtureTest, ShowsTheValuesOfTheReference) {
  int compared = 0;
  EXPECT_EQ(CompareFixture(GetParam(), "reference.safetensors", &compared), "");
  EXPECT_EQ(compared, GetParam().num_compared);
}

TEST_P(ForwardFixtureTest, ShowsTheValuesOfTheReferenceForAShortSequence) {
  int compared = 0;
  EXPECT_EQ(
      CompareFixture(GetParam(), "reference_short.safetensors", &compared), "");
  EXPECT_EQ(compared, GetParam().num_compared);
}

// Per MoE layer 9 tensors (with shared experts 10), per dense layer 3, and the
// logits.
INSTANTIATE_TEST_SUITE_P(
    AllFamilies, ForwardFixtureTest,
    testing::Values(Fixture{"mixtral", "mixtral", 19},
                    Fixture{"mixtral_bf16", "mixtral_bf16", 19},
                    Fixture{"mixtral_fp16", "mixtral_fp16", 19},
                    Fixture{"mixtral_swa", "mixtral_swa", 19},
                    Fixture{"mixtral_fused", "mixtral", 19},
                    Fixture{"deepseek", "deepseek", 24},
                    Fixture{"mistral", "mistral", 7}),
    &Name);

// One prompt of the trained models.
struct Prompt {
  const char* model;
  const char* prefix;
  int num_compared;
};

class ForwardTrainedModelTest : public testing::TestWithParam<Prompt> {};

TEST_P(ForwardTrainedModelTest, ShowsTheValuesOfTheReference) {
  const std::string folder = "models/" + std::string(GetParam().model);
  const auto reference = ReadReference(
      TestData(folder + "/reference.safetensors"), GetParam().prefix);
  const auto model = LoadTestModel(folder);

  const auto shown =
      RunForward(*model, IdsOf(reference), RequestAll(*model), 2);

  int compared = 0;
  EXPECT_EQ(CompareToReference(reference, shown, Bound::kTrained, &compared),
            "");
  EXPECT_EQ(compared, GetParam().num_compared);
}

// Short: six layers of 6 tensors and two with expert outputs; four of 6, two
// with expert and shared outputs, one dense of 2; six dense of 2; the logits.
// Long: logits, ids and weights of the routing in each MoE layer.
INSTANTIATE_TEST_SUITE_P(AllModels, ForwardTrainedModelTest,
                         testing::Values(Prompt{"tiny-mixtral", "short.", 39},
                                         Prompt{"tiny-mixtral", "long.", 18},
                                         Prompt{"tiny-deepseek", "short.", 31},
                                         Prompt{"tiny-deepseek", "long.", 12},
                                         Prompt{"tiny-mistral", "short.", 13}));

}  // namespace
}  // namespace moescope::model
