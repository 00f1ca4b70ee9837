#include "moescope/model/config.h"

#include <algorithm>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

#include "moescope/model/shapes.h"
#include "tests/model/config_text.h"
#include "tests/model/patched_config.h"

namespace moescope::model {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(ConfigTest, ReadsMixtral) {
  const auto config = ParseConfig(Testdata("fixtures/mixtral/config.json"));

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->family, "mixtral");
  EXPECT_EQ(config->model_type, "mixtral");
  EXPECT_EQ(config->num_layers, 2);
  EXPECT_EQ(config->width, 40);
  EXPECT_EQ(config->vocab_size, 128);
  EXPECT_EQ(config->num_heads, 4);
  EXPECT_EQ(config->num_kv_heads, 2);
  EXPECT_EQ(config->head_dim, 10);
  EXPECT_EQ(config->max_positions, 64);
  EXPECT_EQ(config->norm_epsilon, 1e-5);
  EXPECT_EQ(config->rope.theta, 1e6);
  EXPECT_EQ(config->layers[0].sliding_window, std::nullopt);
  EXPECT_FALSE(config->qkv_bias);
  EXPECT_FALSE(config->tied_embeddings);
  EXPECT_EQ(config->num_experts, 8);
  EXPECT_EQ(config->expert_width, 28);
  EXPECT_EQ(config->num_shared_experts, 0);
  EXPECT_EQ(config->router.rule, "softmax_topk");
  EXPECT_EQ(config->router.experts_per_token, 2);
  EXPECT_TRUE(config->router.renormalise);
  EXPECT_THAT(config->MoeLayers(), ElementsAre(0, 1));
  EXPECT_EQ(DescribeRouter(*config), "softmax over 8, top-2, renormalised");
}

TEST(ConfigTest, ReadsASlidingWindowAndAHeadDim) {
  const auto config = ParseConfig(Testdata("fixtures/mixtral_swa/config.json"));

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers[0].sliding_window, 6);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->norm_epsilon, 0.001);
}

TEST(ConfigTest, ReadsDeepseek) {
  const auto config = ParseConfig(Testdata("fixtures/deepseek/config.json"));

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_experts, 12);
  EXPECT_EQ(config->expert_width, 20);
  EXPECT_EQ(config->dense_width, 44);
  EXPECT_EQ(config->num_shared_experts, 2);
  EXPECT_EQ(config->shared_width, 40);
  EXPECT_EQ(config->router.experts_per_token, 3);
  EXPECT_FALSE(config->router.renormalise);
  EXPECT_THAT(config->MoeLayers(), ElementsAre(1, 2));
  EXPECT_EQ(DescribeRouter(*config),
            "softmax over 12, top-3, not renormalised");
}

TEST(ConfigTest, DeepseekHasARouterInEveryNthLayer) {
  const auto config = ParsePatched(
      "deepseek", R"({"num_hidden_layers": 7, "moe_layer_freq": 2})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->MoeLayers(), ElementsAre(2, 4, 6));
}

TEST(ConfigTest, DeepseekNeverRenormalisesASingleWeight) {
  const auto config = ParsePatched(
      "deepseek", R"({"num_experts_per_tok": 1, "norm_topk_prob": true})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->router.renormalise);
}

TEST(ConfigTest, ReadsMistral) {
  const auto config = ParseConfig(Testdata("fixtures/mistral/config.json"));

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_experts, 0);
  EXPECT_EQ(config->dense_width, 44);
  EXPECT_EQ(config->head_dim, 12);
  EXPECT_THAT(config->MoeLayers(), IsEmpty());
  EXPECT_EQ(DescribeRouter(*config), "no router: all layers are dense");
}

TEST(ConfigTest, ReadsQwen2Moe) {
  const auto config = ParseConfig(Testdata("fixtures/qwen2_moe/config.json"));

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->qkv_bias);
  EXPECT_FALSE(config->output_bias);
  EXPECT_EQ(config->num_experts, 8);
  EXPECT_EQ(config->shared_width, 36);
  EXPECT_EQ(config->layers[0].sliding_window, std::nullopt);
  EXPECT_THAT(config->MoeLayers(), ElementsAre(0, 2));
  EXPECT_EQ(DescribeRouter(*config), "softmax over 8, top-3, not renormalised");
}

TEST(ConfigTest, Qwen3MoeHasDenseLayersByStepAndByList) {
  const auto config = ParsePatched("qwen3_moe_sparse_step", R"({
      "num_hidden_layers": 8, "mlp_only_layers": [3]})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->MoeLayers(), ElementsAre(1, 5, 7));
}

TEST(ConfigTest, ReadsDeepseekV2) {
  const auto config = ParseConfig(Testdata("fixtures/deepseek_v2/config.json"));

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->QueryWidth(), 20);
  EXPECT_EQ(config->ValueWidth(), 10);
  EXPECT_EQ(config->RotatedWidth(), 8);
  EXPECT_EQ(config->num_kv_heads, 4);
  EXPECT_TRUE(config->rope.interleaved);
  // (0.1 · 0.707 · ln 4 + 1)² / √20
  EXPECT_NEAR(*config->attention.scale, 0.2695867, 1e-6);
  EXPECT_EQ(DescribeRouter(*config),
            "softmax over 12, 2 of 4 groups by their best (others count as 0), "
            "top-3, not renormalised, times 4");
}

TEST(ConfigTest, ReadsDeepseekV3) {
  const auto config = ParseConfig(Testdata("fixtures/deepseek_v3/config.json"));

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->attention.q_rank, 24);
  EXPECT_EQ(config->shared_width, 16);
  EXPECT_THAT(config->MoeLayers(), ElementsAre(1, 2));
  EXPECT_EQ(DescribeRouter(*config),
            "sigmoid over 16, choice by score plus correction bias, 2 of 4 "
            "groups by the sum of their two best (others count as -infinity), "
            "top-4, renormalised, times 2.5");
}

TEST(ConfigTest, TheRuleNamesAnotherConventionForMaskedGroups) {
  const auto v2 = ParseConfig(Testdata("fixtures/deepseek_v2/config.json"));
  const auto v3 = ParseConfig(Testdata("fixtures/deepseek_v3/config.json"));
  const auto other = ParseConfig(Testdata("fixtures/mixtral/config.json"));

  EXPECT_THAT(DescribeRouter(*v2, false),
              HasSubstr("(others count as -infinity as asked for, not 0 as the "
                        "model has it)"));
  EXPECT_THAT(DescribeRouter(*v3, true),
              HasSubstr("(others count as 0 as asked for, not -infinity as the "
                        "model has it)"));
  EXPECT_EQ(DescribeRouter(*v3, false), DescribeRouter(*v3));
  EXPECT_EQ(DescribeRouter(*other, true), DescribeRouter(*other));
}

TEST(ConfigTest, LatentAttentionMakesADeepseekItsSecondVersion) {
  const auto config =
      ParsePatched("deepseek_v2", R"({"model_type": "deepseek"})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->family, "deepseek_v2");
  EXPECT_EQ(config->model_type, "deepseek");
  EXPECT_EQ(config->router.rule, "group_limited_greedy");
}

TEST(ConfigTest, DeepseekV2CountsDenseLayersFromTheFirstOn) {
  const auto config = ParsePatched("deepseek_v2", R"({"moe_layer_freq": 2,
      "num_hidden_layers": 4})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->MoeLayers(), ElementsAre(1, 2, 3));
}

TEST(ConfigTest, ReadsYarn) {
  const auto config = ParsePatched("mixtral", R"({"rope_scaling": {
      "type": "yarn", "factor": 4, "beta_fast": 8, "truncate": false,
      "original_max_position_embeddings": 16}})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(Text(config->rope),
            "yarn 1e+06 10 0 4 16 8 1 0 1 4 [] [] 1.13863 1");
}

TEST(ConfigTest, ReadsLongrope) {
  const auto config = ParsePatched("mixtral", R"({"head_dim": 4,
      "original_max_position_embeddings": 16, "rope_scaling": {
      "type": "su", "short_factor": [1, 2], "long_factor": [3, 4]}})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(Text(config->rope),
            "longrope 1e+06 4 0 4 16 32 1 1 1 4 [1 2] [3 4] 1.22474 1.22474");
}

TEST(ConfigTest, ReadsLlama3) {
  const auto config = ParsePatched("llama", R"({"rope_scaling": {
      "rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
      "high_freq_factor": 4, "original_max_position_embeddings": 32}})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(Text(config->rope), "llama3 10000 12 0 8 32 32 1 1 1 4 [] [] 1 1");
}

// As Llama 4 Scout is released.
TEST(ConfigTest, ReadsLlama3WithoutARamp) {
  const auto config = ParsePatched("llama4_text", R"({"rope_scaling": {
      "rope_type": "llama3", "factor": 16.0, "low_freq_factor": 1.0,
      "high_freq_factor": 1.0, "original_max_position_embeddings": 8192}})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->forward_status.ok()) << config->forward_status;
  EXPECT_EQ(config->rope.kind, "llama3");
  EXPECT_EQ(config->rope.low_frequency_factor, 1.0);
  EXPECT_EQ(config->rope.high_frequency_factor, 1.0);
}

TEST(ConfigTest, DynamicScalingStretchesThePositions) {
  const auto config = ParsePatched(
      "llama", R"({"rope_scaling": {"type": "dynamic", "factor": 2.5}})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.original_positions, 64);
  EXPECT_EQ(config->max_positions, 160);
}

TEST(ConfigTest, RotatesAPartOfEachHead) {
  const auto config =
      ParsePatched("llama", R"({"partial_rotary_factor": 0.5})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.dim, 6);
}

TEST(ConfigTest, MistralWithoutTheKeyHasTheWindowOfItsClass) {
  const auto config = ParsePatched("mistral", R"({"sliding_window": null})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers[0].sliding_window, 4096);
}

// All fixtures whose config.json there is in both forms.
std::vector<std::string> FixturesInBothSpellings() {
  std::vector<std::string> names;
  for (const auto& folder : std::filesystem::directory_iterator(
           MOESCOPE_SOURCE_DIR "/tests/testdata/fixtures")) {
    if (std::filesystem::exists(folder.path() / "config_v5.json")) {
      names.push_back(folder.path().filename());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

class BothSpellingsTest : public ::testing::TestWithParam<std::string> {};

TEST_P(BothSpellingsTest, GiveTheSameModel) {
  const std::string folder = "fixtures/" + GetParam();
  const auto old_form = ParseConfig(Testdata(folder + "/config.json"));
  const auto new_form = ParseConfig(Testdata(folder + "/config_v5.json"));

  ASSERT_TRUE(old_form.ok()) << old_form.status();
  ASSERT_TRUE(new_form.ok()) << new_form.status();
  EXPECT_EQ(Text(*old_form), Text(*new_form));
}

INSTANTIATE_TEST_SUITE_P(Fixtures, BothSpellingsTest,
                         ::testing::ValuesIn(FixturesInBothSpellings()),
                         [](const auto& row) { return row.param; });

TEST(ConfigTest, RefusesTextThatIsNoObject) {
  EXPECT_EQ(ParseConfig("").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Message(ParseConfig("[]")), "not a JSON object");
  EXPECT_THAT(Message(ParseConfig("{} x")), HasSubstr("not valid JSON"));
  EXPECT_THAT(Message(ParseConfig(std::string("{}\0", 3))),
              HasSubstr("not valid JSON near byte 3"));
  EXPECT_EQ(Message(ParseConfig(R"({"a":1,"a":2})")),
            "key \"a\" stands twice");
  EXPECT_EQ(Message(ParseConfig("{\"a\":" + std::string(100'000, '['))),
            "nested deeper than 32 levels");
}

struct RefusedConfig {
  const char* name;
  const char* fixture;
  const char* patch;
  absl::StatusCode code;
  const char* cause;
};

// Without it gtest prints bytes, addresses among them, into test names.
void PrintTo(const RefusedConfig& row, std::ostream* out) { *out << row.name; }

class RefusedConfigTest : public ::testing::TestWithParam<RefusedConfig> {};

TEST_P(RefusedConfigTest, NamesTheKey) {
  const auto config = ParsePatched(GetParam().fixture, GetParam().patch);

  EXPECT_EQ(config.status().code(), GetParam().code);
  EXPECT_THAT(Message(config), HasSubstr(GetParam().cause));
}

constexpr absl::StatusCode kDataLoss = absl::StatusCode::kDataLoss;
constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;

INSTANTIATE_TEST_SUITE_P(
    Table, RefusedConfigTest,
    ::testing::Values(
        RefusedConfig{"NoModelType", "mixtral", R"({"model_type": null})",
                      kDataLoss, "model_type: missing"},
        RefusedConfig{"UnknownModelType", "mixtral",
                      R"({"model_type": "gpt2"})", kUnimplemented,
                      "model_type: \"gpt2\" is not supported (known: dbrx, "
                      "deepseek, deepseek_v2, deepseek_v3, "},
        RefusedConfig{"NoWidth", "mixtral", R"({"hidden_size": null})",
                      kDataLoss, "hidden_size: missing"},
        RefusedConfig{"TextWidth", "mixtral", R"({"hidden_size": "40"})",
                      kDataLoss,
                      "hidden_size: is \"40\", must be an integer in [1, "
                      "1048576]"},
        RefusedConfig{"FractionalWidth", "mixtral", R"({"hidden_size": 40.5})",
                      kDataLoss, "hidden_size: is 40.5"},
        RefusedConfig{"NegativeLayers", "mixtral",
                      R"({"num_hidden_layers": -1})", kDataLoss,
                      "num_hidden_layers: is -1, must be an integer in [1, "
                      "4096]"},
        RefusedConfig{"ZeroExperts", "mixtral", R"({"num_local_experts": 0})",
                      kDataLoss, "num_local_experts: is 0"},
        RefusedConfig{"MoreExpertsThanCanBeMeant", "mixtral",
                      R"({"num_local_experts": 65536,
                          "num_hidden_layers": 17})", kDataLoss,
                      "number of experts: 65536 in each of 17 layers are "
                      "1114112, must be at most 1048576"},
        RefusedConfig{"EpsilonBeyondFloats", "mixtral",
                      R"({"rms_norm_eps": 1e308})", kDataLoss,
                      "rms_norm_eps: is 1e+308, must be a number above 0 "
                      "within fp32"},
        RefusedConfig{"HugeVocabulary", "mixtral",
                      R"({"vocab_size": 18446744073709551615})", kDataLoss,
                      "vocab_size: is 18446744073709551615"},
        RefusedConfig{"MoreChosenThanExperts", "mixtral",
                      R"({"num_experts_per_tok": 9})", kDataLoss,
                      "num_experts_per_tok: is 9, must be an integer in [1, "
                      "8]"},
        RefusedConfig{"KvHeads", "mixtral", R"({"num_key_value_heads": 3})",
                      kDataLoss,
                      "num_key_value_heads: is 3, must divide "
                      "num_attention_heads 4"},
        RefusedConfig{"HeadsDoNotDivideWidth", "mixtral",
                      R"({"num_attention_heads": 6})", kDataLoss,
                      "num_attention_heads: is 6, must divide hidden_size 40"},
        RefusedConfig{"ZeroEpsilon", "mixtral", R"({"rms_norm_eps": 0})",
                      kDataLoss, "rms_norm_eps: is 0, must be a number above"},
        RefusedConfig{"TiedIsText", "mixtral",
                      R"({"tie_word_embeddings": "no"})", kDataLoss,
                      "tie_word_embeddings: is \"no\", must be true or false"},
        RefusedConfig{"DefaultOfMoreThanAllExperts", "qwen3_moe",
                      R"({"num_experts": 4, "num_experts_per_tok": null})",
                      kDataLoss,
                      "num_experts_per_tok: missing, and the default of 8 is "
                      "more than the 4 experts"},
        RefusedConfig{"CompressedOutside", "llama4_text_nested",
                      R"({"quantization_config": {
                          "quant_method": "compressed-tensors"}})",
                      kUnimplemented,
                      "quantization_config.quant_method: "
                      "\"compressed-tensors\""},
        RefusedConfig{"CompressionConfig", "mixtral",
                      R"({"compression_config": {"format": "pack-quantized"}})",
                      kUnimplemented, "compression_config: "},
        RefusedConfig{"Activation", "mixtral", R"({"hidden_act": "gelu"})",
                      kUnimplemented, "hidden_act: \"gelu\""},
        RefusedConfig{"Quantised", "mixtral",
                      R"({"quantization_config": {"quant_method": "gptq"}})",
                      kUnimplemented,
                      "quantization_config.quant_method: \"gptq\" is not "
                      "supported (fp8 is)"},
        RefusedConfig{"Mxfp4ElsewhereThanGptOss", "mixtral",
                      R"({"quantization_config": {"quant_method": "mxfp4"}})",
                      kUnimplemented,
                      "quantization_config.quant_method: \"mxfp4\""},
        RefusedConfig{"OtherFloat8", "mixtral",
                      R"({"quantization_config": {"quant_method": "fp8",
                          "fmt": "e5m2"}})",
                      kUnimplemented, "quantization_config.fmt: \"e5m2\""},
        RefusedConfig{"StaticActivations", "mixtral",
                      R"({"quantization_config": {"quant_method": "fp8",
                          "activation_scheme": "static"}})",
                      kUnimplemented,
                      "quantization_config.activation_scheme: \"static\""},
        RefusedConfig{"BlocksOfNothing", "mixtral",
                      R"({"quantization_config": {"quant_method": "fp8",
                          "weight_block_size": [128, 0]}})",
                      kDataLoss,
                      "quantization_config.weight_block_size: is 0, must be "
                      "two times an integer in [1, 1048576]"},
        RefusedConfig{"BlockOfOneNumber", "mixtral",
                      R"({"quantization_config": {"quant_method": "fp8",
                          "weight_block_size": [128]}})",
                      kDataLoss,
                      "quantization_config.weight_block_size: is an array"},
        RefusedConfig{"DenseLayerNumber", "qwen2_moe",
                      R"({"mlp_only_layers": [-1]})", kDataLoss,
                      "mlp_only_layers[0]: is -1"},
        RefusedConfig{"MlpBias", "llama", R"({"mlp_bias": true})",
                      kUnimplemented, "mlp_bias: true"},
        RefusedConfig{"LatentAttention", "deepseek", R"({"kv_lora_rank": 512})",
                      kDataLoss, "qk_nope_head_dim: missing"},
        RefusedConfig{"OddLatentRotation", "deepseek_v2",
                      R"({"qk_rope_head_dim": 7})", kDataLoss,
                      "qk_rope_head_dim: is 7, must be even"},
        RefusedConfig{"GroupsDoNotDivide", "deepseek_v2", R"({"n_group": 5})",
                      kDataLoss, "n_group: is 5, must divide n_routed_experts"},
        RefusedConfig{"GroupsOfOne", "deepseek_v3", R"({"n_group": 16})",
                      kDataLoss, "into groups of at least 2"},
        RefusedConfig{"TooFewGroups", "deepseek_v3", R"({"topk_group": 1,
                      "num_experts_per_tok": 5})", kDataLoss,
                      "topk_group: is 1, which leaves 4 experts"},
        RefusedConfig{"TopkMethod", "deepseek_v2",
                      R"({"topk_method": "noaux_tc"})", kUnimplemented,
                      "topk_method: \"noaux_tc\" is not supported (greedy, "
                      "group_limited_greedy are)"},
        RefusedConfig{"SoftmaxV3", "deepseek_v3",
                      R"({"scoring_func": "softmax"})", kUnimplemented,
                      "scoring_func: \"softmax\""},
        RefusedConfig{"Sigmoid", "deepseek", R"({"scoring_func": "sigmoid"})",
                      kUnimplemented, "scoring_func: \"sigmoid\""},
        RefusedConfig{"Groups", "deepseek", R"({"n_group": 8})",
                      kUnimplemented, "n_group: 8"},
        RefusedConfig{"Scaling", "deepseek",
                      R"({"routed_scaling_factor": 16.0})", kUnimplemented,
                      "routed_scaling_factor: 16"},
        RefusedConfig{"MistralsExperts", "mistral",
                      R"({"num_local_experts": 8})", kDataLoss,
                      "num_experts_per_tok: missing"}),
    [](const ::testing::TestParamInfo<RefusedConfig>& row) {
      return std::string(row.param.name);
    });

TEST(ConfigTest, RefusesOneFloat8ScaleForAWholeMatrix) {
  json config = json::parse(Testdata("fixtures/mixtral/config.json"));
  config["quantization_config"] = {{"quant_method", "fp8"},
                                   {"weight_block_size", nullptr}};

  const auto parsed = ParseConfig(config.dump());

  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Message(parsed),
              HasSubstr("quantization_config.weight_block_size: null"));
}

TEST(ConfigTest, ReadsTheBlocksOfFloat8) {
  const auto given = ParsePatched(
      "mixtral", R"({"quantization_config": {"quant_method": "fp8",
                     "weight_block_size": [16, 32]}})");
  const auto absent = ParsePatched(
      "mixtral", R"({"quantization_config": {"quant_method": "fp8"}})");

  ASSERT_TRUE(given.ok()) << given.status();
  ASSERT_TRUE(absent.ok()) << absent.status();
  EXPECT_EQ(given->quantisation, Quantisation::kFloat8Blocks);
  EXPECT_EQ(given->scale_block_rows, 16);
  EXPECT_EQ(given->scale_block_cols, 32);
  EXPECT_EQ(absent->scale_block_rows, 128);
  EXPECT_EQ(absent->scale_block_cols, 128);
}

TEST(ConfigTest, KnowsItsModelTypes) {
  EXPECT_THAT(KnownModelTypes(),
              ElementsAre("dbrx", "deepseek", "deepseek_v2", "deepseek_v3",
                          "gpt_oss", "grok", "grok-1", "grok1", "jetmoe",
                          "llama", "llama4", "llama4_text", "mistral",
                          "mixtral", "olmoe", "phimoe", "qwen2_moe",
                          "qwen3_moe"));
}

TEST(ConfigTest, NamesProjections) {
  EXPECT_EQ(ProjectionName(Projection::kGate), "gate_proj");
  EXPECT_EQ(ProjectionName(Projection::kUp), "up_proj");
  EXPECT_EQ(ProjectionName(Projection::kDown), "down_proj");
}

}  // namespace
}  // namespace moescope::model
