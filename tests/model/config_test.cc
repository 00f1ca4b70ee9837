#include "moescope/model/config.h"

#include <ostream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "moescope/model/shapes.h"
#include "tests/model/scratch_folder.h"

namespace moescope::model {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Testdata(const std::string& name) {
  return ReadBytes(MOESCOPE_SOURCE_DIR "/tests/testdata/" + name);
}

// The config.json of fixture `name` with `patch` merged into it (RFC 7386:
// null removes a key).
absl::StatusOr<ModelConfig> ParsePatched(const std::string& name,
                                         const char* patch) {
  json config = json::parse(Testdata("fixtures/" + name + "/config.json"));
  config.merge_patch(json::parse(patch));
  return ParseConfig(config.dump());
}

std::string Message(const absl::StatusOr<ModelConfig>& config) {
  return std::string(config.status().message());
}

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
  EXPECT_EQ(DescribeRouter(*config), "no router");
}

TEST(ConfigTest, MistralWithoutTheKeyHasTheWindowOfItsClass) {
  const auto config = ParsePatched("mistral", R"({"sliding_window": null})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers[0].sliding_window, 4096);
}

class BothSpellingsTest : public ::testing::TestWithParam<const char*> {};

TEST_P(BothSpellingsTest, GiveTheSameModel) {
  const std::string folder = std::string("fixtures/") + GetParam();
  const auto old_form = ParseConfig(Testdata(folder + "/config.json"));
  const auto new_form = ParseConfig(Testdata(folder + "/config_v5.json"));

  ASSERT_TRUE(old_form.ok()) << old_form.status();
  ASSERT_TRUE(new_form.ok()) << new_form.status();
  EXPECT_EQ(old_form->family, new_form->family);
  EXPECT_EQ(old_form->num_layers, new_form->num_layers);
  EXPECT_EQ(old_form->width, new_form->width);
  EXPECT_EQ(old_form->vocab_size, new_form->vocab_size);
  EXPECT_EQ(old_form->num_heads, new_form->num_heads);
  EXPECT_EQ(old_form->num_kv_heads, new_form->num_kv_heads);
  EXPECT_EQ(old_form->head_dim, new_form->head_dim);
  EXPECT_EQ(old_form->max_positions, new_form->max_positions);
  EXPECT_EQ(old_form->norm_epsilon, new_form->norm_epsilon);
  EXPECT_EQ(old_form->rope.theta, new_form->rope.theta);
  EXPECT_EQ(old_form->layers[0].sliding_window,
            new_form->layers[0].sliding_window);
  EXPECT_EQ(old_form->tied_embeddings, new_form->tied_embeddings);
  EXPECT_EQ(old_form->num_experts, new_form->num_experts);
  EXPECT_EQ(old_form->expert_width, new_form->expert_width);
  EXPECT_EQ(old_form->dense_width, new_form->dense_width);
  EXPECT_EQ(old_form->router.experts_per_token,
            new_form->router.experts_per_token);
  EXPECT_EQ(old_form->router.renormalise, new_form->router.renormalise);
  EXPECT_EQ(old_form->MoeLayers(), new_form->MoeLayers());
}

INSTANTIATE_TEST_SUITE_P(Fixtures, BothSpellingsTest,
                         ::testing::Values("mixtral", "mixtral_bf16",
                                           "mixtral_fp16", "mixtral_swa",
                                           "mistral"));

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
                      "model_type: \"gpt2\" is not supported (known: deepseek, "
                      "mistral, mixtral)"},
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
        RefusedConfig{"OddHeadDim", "mixtral", R"({"head_dim": 5})", kDataLoss,
                      "head_dim: is 5, must be even"},
        RefusedConfig{"ZeroEpsilon", "mixtral", R"({"rms_norm_eps": 0})",
                      kDataLoss, "rms_norm_eps: is 0, must be a number above"},
        RefusedConfig{"TiedIsText", "mixtral",
                      R"({"tie_word_embeddings": "no"})", kDataLoss,
                      "tie_word_embeddings: is \"no\", must be true or false"},
        RefusedConfig{"TwoThetas", "mixtral",
                      R"({"rope_parameters": {"rope_theta": 10}})", kDataLoss,
                      "rope_theta: is 1e+06, but rope_parameters.rope_theta "
                      "is 10"},
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
        RefusedConfig{"OldRopeScaling", "mixtral",
                      R"({"rope_scaling": {"type": "yarn"}})", kUnimplemented,
                      "rope_scaling.type: \"yarn\""},
        RefusedConfig{"NewRopeScaling", "mixtral",
                      R"({"rope_parameters": {"rope_type": "linear"}})",
                      kUnimplemented, "rope_parameters.rope_type: \"linear\""},
        RefusedConfig{"PartialRotation", "mixtral",
                      R"({"partial_rotary_factor": 0.5})", kUnimplemented,
                      "partial_rotary_factor: \"0.5\""},
        RefusedConfig{"LatentAttention", "deepseek", R"({"kv_lora_rank": 512})",
                      kUnimplemented, "kv_lora_rank: latent attention"},
        RefusedConfig{"Sigmoid", "deepseek", R"({"scoring_func": "sigmoid"})",
                      kUnimplemented, "scoring_func: \"sigmoid\""},
        RefusedConfig{"Groups", "deepseek", R"({"n_group": 8})",
                      kUnimplemented, "n_group: 8"},
        RefusedConfig{"Scaling", "deepseek",
                      R"({"routed_scaling_factor": 16.0})", kUnimplemented,
                      "routed_scaling_factor: 16"},
        RefusedConfig{"ExpertsInMistral", "mistral",
                      R"({"num_local_experts": 8})", kUnimplemented,
                      "num_local_experts: experts under model_type"}),
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
  EXPECT_THAT(KnownModelTypes(), ElementsAre("deepseek", "mistral", "mixtral"));
}

TEST(ConfigTest, NamesProjections) {
  EXPECT_EQ(ProjectionName(Projection::kGate), "gate_proj");
  EXPECT_EQ(ProjectionName(Projection::kUp), "up_proj");
  EXPECT_EQ(ProjectionName(Projection::kDown), "down_proj");
}

}  // namespace
}  // namespace moescope::model
