#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/model/families/family_internal.h"
#include "tests/model/forward_testing.h"
#include "tests/model/pytorch_bytes.h"
#include "tests/model/safetensors_bytes.h"
#include "tests/testing/scratch_folder.h"

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

// How many tokens have the reference's choice, over all routers.
std::string EqualChoices(const std::map<std::string, at::Tensor>& reference,
                         const std::map<std::string, at::Tensor>& shown) {
  std::int64_t equal = 0;
  std::int64_t all = 0;
  for (const auto& [name, ids] : reference) {
    if (!absl::EndsWith(name, "topk_ids")) continue;
    equal += shown.at(name).eq(ids).all(1).sum().item<std::int64_t>();
    all += ids.size(0);
  }
  return absl::StrCat(equal, " of ", all);
}

std::string CompareFixture(const Fixture& fixture, const std::string& file,
                           int* compared) {
  const auto reference = ReadReference(
      TestData("fixtures/" + std::string(fixture.reference) + "/" + file), "");
  const auto model =
      LoadTestModel("fixtures/" + std::string(fixture.checkpoint));
  const auto shown =
      RunForward(*model, IdsOf(reference), RequestAll(*model), 2);
  // For the table of families; --gtest_output=xml shows both.
  testing::Test::RecordProperty("equal_choices",
                                EqualChoices(reference, shown));
  testing::Test::RecordProperty(
      "worst_logit_error",
      absl::StrCat(WorstRowError(reference.at("logits"), shown.at("logits"))));
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
  // Without what each expert makes of it.
  const auto model =
      LoadTestModel("fixtures/" + std::string(GetParam().checkpoint));
  const auto moe_layers =
      static_cast<int>(model->checkpoint().config().MoeLayers().size());
  EXPECT_EQ(compared, GetParam().num_compared - 2 * moe_layers);
}

// Per MoE layer 9 tensors (with shared experts 10, with a router in the
// attention 12), per dense layer 3, and the logits.
constexpr Fixture kFixtures[] = {
    {"mixtral", "mixtral", 19},
    {"mixtral_bf16", "mixtral_bf16", 19},
    {"mixtral_fp16", "mixtral_fp16", 19},
    {"mixtral_swa", "mixtral_swa", 19},
    {"mixtral_fused", "mixtral", 19},
    {"deepseek", "deepseek", 24},
    {"deepseek_v2", "deepseek_v2", 24},
    {"deepseek_v2_lite", "deepseek_v2_lite", 14},
    {"deepseek_v3", "deepseek_v3", 24},
    {"deepseek_v3_negbias", "deepseek_v3_negbias", 14},
    {"deepseek_v3_fp8", "deepseek_v3_fp8", 14},
    {"olmoe", "olmoe", 19},
    {"qwen2_moe", "qwen2_moe", 24},
    {"qwen3_moe", "qwen3_moe", 19},
    {"qwen3_moe_fused", "qwen3_moe", 19},
    {"qwen3_moe_sparse_step", "qwen3_moe_sparse_step", 25},
    {"mistral", "mistral", 7},
    {"llama", "mistral", 7},
    {"phimoe", "phimoe", 19},
    {"gpt_oss", "gpt_oss", 19},
    {"gpt_oss_mxfp4", "gpt_oss_mxfp4", 19},
    {"llama4_text", "llama4_text", 27},
    {"llama4_text_nested", "llama4_text", 27},
    {"dbrx", "dbrx", 19},
    {"jetmoe", "jetmoe", 25},
    {"grok1", "grok1", 19},
};

INSTANTIATE_TEST_SUITE_P(AllFamilies, ForwardFixtureTest,
                         testing::ValuesIn(kFixtures), &Name);

TEST(ForwardFixturesTest, HaveOneOfEveryFamily) {
  std::set<std::string> covered;
  for (const Fixture& fixture : kFixtures) {
    const auto checkpoint = Checkpoint::Open(
        TestData("fixtures/" + std::string(fixture.checkpoint)));
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    covered.insert((*checkpoint)->config().family);
  }
  std::set<std::string> registered;
  for (const internal::Family& family : internal::Families()) {
    registered.insert(family.name);
  }
  EXPECT_EQ(covered, registered);
}

// The mixtral fixture as Mixtral's first port has it: model_type "mistral" and
// experts under "mlp.". The header keeps its length.
void WriteFirstPort(const ScratchFolder& folder) {
  const std::string source = TestData("fixtures/mixtral/");
  std::string bytes = ReadBytes(source + "model.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  std::string header = absl::StrReplaceAll(bytes.substr(8, length),
                                           {{"block_sparse_moe.", "mlp."}});
  header.resize(length, ' ');
  folder.Write("model.safetensors", bytes.replace(8, length, header));
  folder.Write("config.json",
               absl::StrReplaceAll(ReadBytes(source + "config.json"),
                                   {{"\"mixtral\"", "\"mistral\""}}));
}

// A name of hpcai-tech's conversion of Grok-1 as keyfan's has it.
std::string OtherGrok1Name(const std::string& name) {
  return absl::StrReplaceAll(
      name, {{"model.embed_tokens.", "transformer.in_out_embed."},
             {"model.norm.scale", "transformer.rms_norm.weight"},
             {"model.layers.", "transformer.decoder_layer."},
             {".attn.q_proj.", ".multi_head_attention.query."},
             {".attn.k_proj.", ".multi_head_attention.key."},
             {".attn.v_proj.", ".multi_head_attention.value."},
             {".attn.o_proj.", ".multi_head_attention.linear."},
             {".pre_attn_norm.scale", ".rms_norm.weight"},
             {".post_attn_norm.scale", ".rms_norm_1.weight"},
             {".pre_moe_norm.scale", ".rms_norm_2.weight"},
             {".post_moe_norm.scale", ".rms_norm_3.weight"},
             {".moe_block.gate.", ".router."},
             {".moe_block.experts.", ".moe."}});
}

// The grok1 fixture as its other public conversion: names, keys of config.json,
// and weights in pytorch_model-*.bin with an index.
void WriteOtherGrok1(const ScratchFolder& folder,
                     const SafetensorsFile& weights) {
  constexpr const char* kFiles[] = {"pytorch_model-00001-of-00002.bin",
                                    "pytorch_model-00002-of-00002.bin"};
  std::map<std::string, const TensorEntry*> shards[2];
  std::string index;
  for (const auto& [name, tensor] : weights.tensors()) {
    const std::string other = OtherGrok1Name(name);
    const int shard = absl::StrContains(name, ".layers.1.") ? 1 : 0;
    shards[shard][other] = &tensor;
    absl::StrAppend(&index, index.empty() ? "" : ", ", "\"", other, "\": \"",
                    kFiles[shard], "\"");
  }
  folder.Write(kFiles[0], PytorchBytes(shards[0]));
  folder.Write(kFiles[1], PytorchBytes(shards[1]));
  folder.Write("pytorch_model.bin.index.json",
               absl::StrCat("{\"weight_map\": {", index, "}}"));
  folder.Write("config.json",
               absl::StrReplaceAll(
                   ReadBytes(TestData("fixtures/grok1/config.json")),
                   {{"Grok1ModelForCausalLM\"\n  ]",
                     "GrokForCausalLM\"\n  ], \"model_type\": \"grok\""},
                    {"\"num_experts\"", "\"num_local_experts\""},
                    {"\"max_attn_value\": 30.0", "\"hidden_act\": \"gelu\""}}));
}

std::string BytesOf(const TensorEntry& tensor) {
  return {reinterpret_cast<const char*>(tensor.data),
          static_cast<std::size_t>(tensor.size_bytes)};
}

TEST(ForwardFixturesTest, BothConversionsOfGrok1HaveTheSameTensors) {
  const auto weights =
      *SafetensorsFile::Open(TestData("fixtures/grok1/model.safetensors"));
  const ScratchFolder folder;
  WriteOtherGrok1(folder, *weights);

  const auto checkpoint = Checkpoint::Open(folder.path());

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->weight_files().size(), 2U);
  for (const auto& [name, tensor] : weights->tensors()) {
    const TensorEntry* found = (*checkpoint)->FindTensor(OtherGrok1Name(name));
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->shape, tensor.shape) << name;
    EXPECT_EQ(BytesOf(*found), BytesOf(tensor)) << name;
  }
}

TEST(ForwardFixturesTest, BothConversionsOfGrok1GiveTheSameValues) {
  const auto weights =
      *SafetensorsFile::Open(TestData("fixtures/grok1/model.safetensors"));
  const ScratchFolder folder;
  WriteOtherGrok1(folder, *weights);
  const auto one = LoadTestModel("fixtures/grok1");
  const Sequences sequences = IdsOf(
      ReadReference(TestData("fixtures/grok1/reference.safetensors"), ""));

  const auto other = LoadModel(folder.path());

  EXPECT_EQ(other->checkpoint().config().family, "grok1");
  EXPECT_EQ(other->checkpoint().config().model_type, "grok");
  EXPECT_EQ(
      FirstDifference(RunForward(*one, sequences, RequestAll(*one), 2),
                      RunForward(*other, sequences, RequestAll(*other), 2)),
      "");
}

TEST(ForwardFixturesTest, TheFirstPortOfMixtralRoutesAlike) {
  const ScratchFolder folder;
  WriteFirstPort(folder);
  const auto reference =
      ReadReference(TestData("fixtures/mixtral/reference.safetensors"), "");

  const auto model = LoadModel(folder.path());

  EXPECT_EQ(model->checkpoint().config().family, "mixtral");
  EXPECT_EQ(DescribeRouter(model->checkpoint().config()),
            "top-2 of 8 logits, softmax over the chosen");
  int compared = 0;
  EXPECT_EQ(CompareToReference(reference,
                               RunForward(*model, IdsOf(reference),
                                          RequestAll(*model), 2),
                               Bound::kFixtures, &compared),
            "");
  EXPECT_EQ(compared, 19);
}

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

// Short: six layers of 6 tensors and one with expert outputs; four of 6, two
// with shared outputs and one of these with expert outputs, one dense of 2; six
// dense of 2; the logits.
// Long: logits, ids and weights of the routing in each MoE layer.
INSTANTIATE_TEST_SUITE_P(AllModels, ForwardTrainedModelTest,
                         testing::Values(Prompt{"tiny-mixtral", "short.", 38},
                                         Prompt{"tiny-mixtral", "long.", 18},
                                         Prompt{"tiny-deepseek", "short.", 30},
                                         Prompt{"tiny-deepseek", "long.", 12},
                                         Prompt{"tiny-mistral", "short.", 13}));

}  // namespace
}  // namespace moescope::model
