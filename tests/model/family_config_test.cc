// Keys and defaults of single families.
#include <ostream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "moescope/model/config.h"
#include "tests/model/config_text.h"
#include "tests/model/patched_config.h"

namespace moescope::model {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// What a family's router is said to do, and its layers.
struct Described {
  const char* fixture;
  const char* router;
  std::vector<std::int64_t> moe_layers;
};

void PrintTo(const Described& row, std::ostream* out) { *out << row.fixture; }

class DescribedTest : public ::testing::TestWithParam<Described> {};

TEST_P(DescribedTest, SaysHowTheFamilyRoutes) {
  const auto config = ParseConfig(Testdata(
      std::string("fixtures/") + GetParam().fixture + "/config.json"));

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->forward_status.ok()) << config->forward_status;
  EXPECT_EQ(DescribeRouter(*config), GetParam().router);
  EXPECT_EQ(config->MoeLayers(), GetParam().moe_layers);
}

INSTANTIATE_TEST_SUITE_P(
    Families, DescribedTest,
    ::testing::Values(
        Described{"phimoe",
                  "sparsemixer over 8, two picks, each weighted by the softmax "
                  "over the logits at most 40% below it, not renormalised",
                  {0, 1}},
        Described{"gpt_oss",
                  "top-3 of 8 logits, softmax over the chosen",
                  {0, 1}},
        Described{"llama4_text",
                  "top-1 of 8 logits, sigmoid of each; the weight multiplies "
                  "the expert's input",
                  {1, 3}},
        Described{"llama4_text_nested",
                  "top-1 of 8 logits, sigmoid of each; the weight multiplies "
                  "the expert's input",
                  {1, 3}},
        Described{"dbrx", "softmax over 8, top-3, renormalised", {0, 1}},
        Described{"jetmoe",
                  "top-2 of 8 logits, softmax over the chosen; a second "
                  "router chooses the attention's query heads by the same rule",
                  {0, 1}},
        Described{"grok1", "softmax over 8, top-2, not renormalised", {0, 1}}),
    [](const ::testing::TestParamInfo<Described>& row) {
      return std::string(row.param.fixture);
    });

// modeling_deepseek_v2.py of transformers 5.23 multiplies by the factor alone.
TEST(FamilyConfigTest, DeepseekV2DoesNotLookAtNormTopkProb) {
  const auto config = ParsePatched(
      "deepseek_v2", R"({"norm_topk_prob": true})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->forward_status.ok()) << config->forward_status;
  EXPECT_FALSE(config->router.renormalise);
  EXPECT_EQ(config->router.scaling, 4.0);
}

// configuration_moe_mistral.py of the port: a class without a window, where
// dense Mistral's has one of 4096.
TEST(FamilyConfigTest, MixtralsFirstPortHasNoWindowUnlessItNamesOne) {
  const auto plain = ParsePatched(
      "mistral", R"({"num_experts": 8, "num_experts_per_token": 2,
                     "sliding_window": null})");
  const auto windowed = ParsePatched(
      "mistral", R"({"num_experts": 8, "num_experts_per_token": 2,
                     "sliding_window": 9})");
  const auto dense = ParsePatched("mistral", R"({"sliding_window": null})");

  ASSERT_TRUE(plain.ok()) << plain.status();
  ASSERT_TRUE(windowed.ok()) << windowed.status();
  ASSERT_TRUE(dense.ok()) << dense.status();
  EXPECT_EQ(plain->layers[0].sliding_window, std::nullopt);
  EXPECT_EQ(windowed->layers[0].sliding_window, 9);
  EXPECT_EQ(dense->layers[0].sliding_window, 4096);
}

// The list that Qwen2MoeConfig of transformers 5 makes.
TEST(FamilyConfigTest, Qwen2MoeHasItsWindowInEverySecondOfTheFirstLayers) {
  const auto config = ParsePatched("qwen2_moe", R"({"use_sliding_window": true,
      "num_hidden_layers": 5, "sliding_window": 9, "max_window_layers": 3})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers[0].sliding_window, 9);
  EXPECT_EQ(config->layers[1].sliding_window, std::nullopt);
  EXPECT_EQ(config->layers[2].sliding_window, 9);
  EXPECT_EQ(config->layers[3].sliding_window, std::nullopt);
  EXPECT_EQ(config->layers[4].sliding_window, std::nullopt);
}

TEST(FamilyConfigTest, Qwen2MoeTakesLayerTypesBeforeItsOwnRule) {
  const auto config = ParsePatched("qwen2_moe", R"({"use_sliding_window": true,
      "sliding_window": 9, "max_window_layers": 1, "layer_types": [
      "full_attention", "sliding_attention", "sliding_attention"]})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers[0].sliding_window, std::nullopt);
  EXPECT_EQ(config->layers[1].sliding_window, 9);
  EXPECT_EQ(config->layers[2].sliding_window, 9);
}

TEST(FamilyConfigTest, TakesASynonymOfE4m3AndAnEmptyQuantisationForNone) {
  const auto synonym = ParsePatched(
      "mixtral", R"({"quantization_config": {"quant_method": "fp8",
                     "fmt": "float8_e4m3fn"}})");
  const auto empty = ParsePatched("mixtral", R"({"quantization_config": {}})");

  ASSERT_TRUE(synonym.ok()) << synonym.status();
  ASSERT_TRUE(empty.ok()) << empty.status();
  EXPECT_EQ(synonym->quantisation, Quantisation::kFloat8Blocks);
  EXPECT_EQ(empty->quantisation, Quantisation::kNone);
}

TEST(FamilyConfigTest, TwoSpellingsOfRopeMayAgree) {
  const auto config = ParsePatched(
      "mixtral", R"({"rope_parameters": {"rope_type": "linear", "factor": 4},
                     "rope_scaling": {"type": "linear", "factor": 4}})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.kind, "linear");
  EXPECT_EQ(config->rope.factor, 4.0);
}

TEST(FamilyConfigTest, RopeByKindOfLayerForbidsForwardPassesAlone) {
  const auto config = ParsePatched(
      "mixtral", R"({"rope_theta": null, "rope_parameters": {"full_attention": {
                     "rope_type": "default", "rope_theta": 500.0}}})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->forward_status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(config->forward_status.message()),
              HasSubstr("rope_parameters.\"full_attention\": positions"));
}

TEST(FamilyConfigTest, SwishIsSilu) {
  const auto config = ParsePatched("mixtral", R"({"hidden_act": "swish"})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->activation, Activation::kSilu);
}

TEST(FamilyConfigTest, LlamaFoursLayersFollowTheirDefaults) {
  const auto config = ParsePatched(
      "llama4_text", R"({"no_rope_layers": null, "num_hidden_layers": 8,
          "interleave_moe_layer_step": 1, "attention_chunk_size": null,
          "attn_temperature_tuning": 4})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->layers[2].rotates);
  EXPECT_FALSE(config->layers[3].rotates);
  EXPECT_FALSE(config->layers[7].rotates);
  EXPECT_EQ(config->layers[2].attention_chunk, 8192);
  EXPECT_EQ(config->layers[3].attention_chunk, std::nullopt);
  EXPECT_EQ(config->MoeLayers().size(), 8U);
  EXPECT_EQ(config->attention.temperature_scale, 0.1);
}

TEST(FamilyConfigTest, GptOssWindowsAlternateByDefault) {
  const auto config = ParsePatched(
      "gpt_oss", R"({"layer_types": null, "sliding_window": null,
          "attention_bias": null, "num_hidden_layers": 3})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers[0].sliding_window, 128);
  EXPECT_EQ(config->layers[1].sliding_window, std::nullopt);
  EXPECT_EQ(config->layers[2].sliding_window, 128);
  EXPECT_TRUE(config->qkv_bias);
  EXPECT_EQ(config->swiglu_alpha, 1.702);
}

std::string RopeOf(const absl::StatusOr<ModelConfig>& config) {
  if (!config.ok()) return config.status().ToString();
  const RopeConfig& rope = config->rope;
  return absl::StrCat(rope.kind, " ", rope.theta, " ", rope.factor, " ",
                      rope.original_positions, " ", rope.beta_fast, " ",
                      rope.beta_slow, rope.truncate ? " whole " : " real ",
                      rope.attention_factor);
}

// 1.34657 is 0.1 ln 32 + 1.
TEST(FamilyConfigTest, GptOssRotatesAsReleasedUnlessToldOtherwise) {
  const std::string released = "yarn 1000 32 4096 32 1 real 1.34657";
  json nulls = json::parse(Testdata("fixtures/gpt_oss/config.json"));
  nulls["rope_scaling"] = nullptr;
  nulls["rope_parameters"] = nullptr;

  EXPECT_EQ(RopeOf(ParsePatched("gpt_oss", R"({"rope_scaling": null})")),
            released);
  EXPECT_EQ(RopeOf(ParseConfig(nulls.dump())), released);
  EXPECT_EQ(RopeOf(ParsePatched("gpt_oss", R"({"rope_scaling": null,
                                               "rope_theta": null})")),
            "yarn 150000 32 4096 32 1 real 1.34657");
}

TEST(FamilyConfigTest, GptOssRotatesPlainlyWhereTheConfigSaysSo) {
  const auto old_form = ParsePatched(
      "gpt_oss", R"({"rope_scaling": {"rope_type": "default"}})");
  const auto new_form = ParsePatched(
      "gpt_oss", R"({"rope_scaling": null, "rope_theta": null,
          "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"}})");

  ASSERT_TRUE(old_form.ok()) << old_form.status();
  ASSERT_TRUE(new_form.ok()) << new_form.status();
  EXPECT_EQ(old_form->rope.kind, "default");
  EXPECT_EQ(new_form->rope.kind, "default");
  EXPECT_EQ(new_form->rope.theta, 1000.0);
}

TEST(FamilyConfigTest, PhimoePicksTwoWhateverTheConfigSays) {
  const auto config = ParsePatched("phimoe", R"({"num_experts_per_tok": 4})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->router.experts_per_token, 2);
}

// Keys of myshell-ai/JetMoE, configuration_jetmoe.py.
TEST(FamilyConfigTest, ReadsJetmoeAsItsPublisherSpellsIt) {
  const auto theirs = ParsePatched(
      "jetmoe", R"({"num_local_experts": null, "num_experts_per_tok": null,
          "intermediate_size": null, "aux_loss_coef": null,
          "moe_num_experts": 8, "moe_top_k": 3, "ffn_hidden_size": 24,
          "num_attention_heads": 6, "glu": true, "bias": true})");
  const auto ours = ParsePatched("jetmoe", R"({"num_experts_per_tok": 3})");

  ASSERT_TRUE(theirs.ok()) << theirs.status();
  ASSERT_TRUE(ours.ok()) << ours.status();
  EXPECT_TRUE(theirs->forward_status.ok()) << theirs->forward_status;
  EXPECT_EQ(theirs->router.experts_per_token, 3);
  EXPECT_EQ(theirs->num_heads, 6);
  EXPECT_EQ(Text(*theirs), Text(*ours));
}

TEST(FamilyConfigTest, JetmoesTwoSpellingsMustAgree) {
  const auto agreeing = ParsePatched(
      "jetmoe", R"({"moe_num_experts": 8, "moe_top_k": 2,
                    "ffn_hidden_size": 24})");

  EXPECT_TRUE(agreeing.ok()) << agreeing.status();
  EXPECT_EQ(Message(ParsePatched("jetmoe", R"({"moe_num_experts": 16})")),
            "moe_num_experts: is 16, but num_local_experts is 8; they must "
            "agree");
  EXPECT_EQ(Message(ParsePatched("jetmoe", R"({"moe_top_k": 3})")),
            "moe_top_k: is 3, but num_experts_per_tok is 2; they must agree");
  EXPECT_EQ(Message(ParsePatched("jetmoe", R"({"ffn_hidden_size": 48})")),
            "ffn_hidden_size: is 48, but intermediate_size is 24; they must "
            "agree");
}

TEST(FamilyConfigTest, JetmoeWithoutGatesOrBiasesIsNotSupported) {
  const auto plain = ParsePatched("jetmoe", R"({"glu": false})");
  const auto unbiased = ParsePatched("jetmoe", R"({"bias": false})");

  EXPECT_EQ(plain.status(),
            absl::UnimplementedError("glu: false is not supported (true is)"));
  EXPECT_EQ(unbiased.status(), absl::UnimplementedError(
                                   "bias: false is not supported (true is)"));
}

TEST(FamilyConfigTest, DbrxRopeBaseIsThatOfItsAttention) {
  const auto config = ParsePatched(
      "dbrx", R"({"rope_parameters": {"rope_theta": 10000.0}})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.theta, 500.0);
  EXPECT_EQ(config->attention.clip_qkv, 1.0);
}

// Any of the names of the number of experts, whatever the family's own.
struct RenamedCount {
  const char* name;
  const char* fixture;
  const char* patch;
};

void PrintTo(const RenamedCount& row, std::ostream* out) { *out << row.name; }

class RenamedCountTest : public ::testing::TestWithParam<RenamedCount> {};

TEST_P(RenamedCountTest, IsTheNumberOfExperts) {
  const auto config = ParsePatched(GetParam().fixture, GetParam().patch);

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_experts, 24);
}

INSTANTIATE_TEST_SUITE_P(
    Families, RenamedCountTest,
    ::testing::Values(
        RenamedCount{"deepseek", "deepseek",
                     R"({"n_routed_experts": null, "num_experts": 24})"},
        RenamedCount{"deepseek_v3", "deepseek_v3",
                     R"({"n_routed_experts": null, "num_local_experts": 24})"},
        RenamedCount{"jetmoe", "jetmoe",
                     R"({"num_local_experts": null, "num_experts": 24})"},
        RenamedCount{"qwen2_moe", "qwen2_moe",
                     R"({"num_experts": null, "n_routed_experts": 24})"},
        RenamedCount{"mixtral", "mixtral",
                     R"({"num_local_experts": null, "moe_num_experts": 24})"},
        RenamedCount{"dbrx", "dbrx", R"({"ffn_config": {
                     "moe_num_experts": null, "num_local_experts": 24}})"}),
    [](const ::testing::TestParamInfo<RenamedCount>& row) {
      return std::string(row.param.name);
    });

// Two names of one number that disagree; `message` names both.
struct Contradiction {
  const char* name;
  const char* fixture;
  const char* patch;
  const char* message;
};

void PrintTo(const Contradiction& row, std::ostream* out) { *out << row.name; }

class ContradictionTest : public ::testing::TestWithParam<Contradiction> {};

TEST_P(ContradictionTest, IsRefusedByBothNames) {
  const auto config = ParsePatched(GetParam().fixture, GetParam().patch);

  EXPECT_EQ(config.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Message(config),
            absl::StrCat(GetParam().message, "; they must agree"));
}

INSTANTIATE_TEST_SUITE_P(
    Families, ContradictionTest,
    ::testing::Values(
        Contradiction{"mixtral", "mixtral", R"({"num_experts": 4})",
                      "num_experts: is 4, but num_local_experts is 8"},
        Contradiction{"mixtrals_port", "mistral",
                      R"({"num_local_experts": 8, "n_routed_experts": 4,
                          "num_experts_per_tok": 2})",
                      "n_routed_experts: is 4, but num_local_experts is 8"},
        Contradiction{"mixtrals_port_choice", "mistral",
                      R"({"num_local_experts": 8, "num_experts_per_tok": 2,
                          "num_experts_per_token": 3})",
                      "num_experts_per_token: is 3, but num_experts_per_tok is "
                      "2"},
        Contradiction{"deepseek", "deepseek", R"({"num_experts": 6})",
                      "num_experts: is 6, but n_routed_experts is 12"},
        Contradiction{"deepseek_v2", "deepseek_v2",
                      R"({"num_local_experts": 6})",
                      "num_local_experts: is 6, but n_routed_experts is 12"},
        Contradiction{"deepseek_v3", "deepseek_v3",
                      R"({"moe_num_experts": 8})",
                      "moe_num_experts: is 8, but n_routed_experts is 16"},
        Contradiction{"qwen2_moe", "qwen2_moe", R"({"num_local_experts": 4})",
                      "num_local_experts: is 4, but num_experts is 8"},
        Contradiction{"qwen3_moe", "qwen3_moe", R"({"num_local_experts": 4})",
                      "num_local_experts: is 4, but num_experts is 8"},
        Contradiction{"olmoe", "olmoe", R"({"n_routed_experts": 4})",
                      "n_routed_experts: is 4, but num_experts is 8"},
        Contradiction{"phimoe", "phimoe", R"({"num_experts": 4})",
                      "num_experts: is 4, but num_local_experts is 8"},
        Contradiction{"gpt_oss", "gpt_oss", R"({"num_experts": 4})",
                      "num_experts: is 4, but num_local_experts is 8"},
        Contradiction{"gpt_oss_choice", "gpt_oss",
                      R"({"experts_per_token": 2})",
                      "experts_per_token: is 2, but num_experts_per_tok is 3"},
        Contradiction{"llama4", "llama4_text", R"({"num_experts": 4})",
                      "num_experts: is 4, but num_local_experts is 8"},
        Contradiction{"grok1", "grok1", R"({"num_local_experts": 4})",
                      "num_local_experts: is 4, but num_experts is 8"},
        Contradiction{"dbrx", "dbrx", R"({"ffn_config": {"num_experts": 4}})",
                      "ffn_config.num_experts: is 4, but "
                      "ffn_config.moe_num_experts is 8"}),
    [](const ::testing::TestParamInfo<Contradiction>& row) {
      return std::string(row.param.name);
    });

TEST(FamilyConfigTest, NamesOfOneNumberMayAgree) {
  const auto config =
      ParsePatched("mixtral", R"({"num_experts": 8, "n_routed_experts": 8})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_experts, 8);
}

// Llama Guard 4: Scout's text part without experts.
TEST(FamilyConfigTest, Llama4WithoutExpertLayersIsDense) {
  const auto config = ParsePatched(
      "llama4_text_nested",
      R"({"text_config": {"num_local_experts": 0, "moe_layers": [],
                          "interleave_moe_layer_step": 0}})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->forward_status.ok()) << config->forward_status;
  EXPECT_TRUE(config->MoeLayers().empty());
  EXPECT_EQ(config->num_experts, 0);
  EXPECT_EQ(config->num_shared_experts, 0);
  EXPECT_EQ(DescribeRouter(*config), "no router: all layers are dense");
}

// All of whose layers are before the first one with experts.
TEST(FamilyConfigTest, DeepseekV3OfDenseLayersHasNoRouter) {
  const auto config =
      ParsePatched("deepseek_v3", R"({"num_hidden_layers": 1})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->MoeLayers().empty());
  EXPECT_EQ(DescribeRouter(*config), "no router: all layers are dense");
}

TEST(FamilyConfigTest, ExpertLayersOfLlama4NeedExperts) {
  const auto config =
      ParsePatched("llama4_text", R"({"num_local_experts": 0})");

  EXPECT_EQ(config.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(config), HasSubstr("num_local_experts: is 0"));
}

TEST(FamilyConfigTest, MixtralHasTheDefaultsOfItsClass) {
  const auto config = ParsePatched(
      "mixtral", R"({"num_attention_heads": 40, "head_dim": 4,
          "num_key_value_heads": null, "rms_norm_eps": null,
          "max_position_embeddings": null, "num_experts_per_tok": null})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_kv_heads, 8);
  EXPECT_EQ(config->norm_epsilon, 1e-5);
  EXPECT_EQ(config->max_positions, 131072);
  EXPECT_EQ(config->router.experts_per_token, 2);
}

TEST(FamilyConfigTest, NullForKeyValueHeadsMeansAllHeads) {
  json text = json::parse(Testdata("fixtures/mixtral/config.json"));
  text["num_key_value_heads"] = nullptr;

  const auto config = ParseConfig(text.dump());

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_kv_heads, 4);
}

TEST(FamilyConfigTest, DeepseekV3HasTheDefaultsOfItsClass) {
  const auto config = ParsePatched(
      "deepseek_v3", R"({"n_group": null, "topk_group": null,
          "routed_scaling_factor": null, "n_shared_experts": null,
          "num_hidden_layers": 5, "first_k_dense_replace": null,
          "num_experts_per_tok": null, "rms_norm_eps": null})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->router.num_groups, 8);
  EXPECT_EQ(config->router.groups_kept, 4);
  EXPECT_EQ(config->router.scaling, 2.5);
  EXPECT_EQ(config->router.experts_per_token, 8);
  EXPECT_EQ(config->num_shared_experts, 1);
  EXPECT_EQ(config->MoeLayers(), (std::vector<std::int64_t>{3, 4}));
  EXPECT_EQ(config->norm_epsilon, 1e-6);
}

TEST(FamilyConfigTest, GrokIsKnownByItsAutoMapToo) {
  const auto config = ParsePatched("grok1", R"({"architectures": null})");
  const auto neither =
      ParsePatched("grok1", R"({"architectures": null, "auto_map": null})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->family, "grok1");
  EXPECT_EQ(neither.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(neither), HasSubstr("model_type: missing"));
}

TEST(FamilyConfigTest, GrokIsKnownByItsArchitecture) {
  const auto config = ParseConfig(Testdata("fixtures/grok1/config.json"));
  const auto other =
      ParsePatched("grok1", R"({"architectures": ["GPT2LMHeadModel"]})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->family, "grok1");
  EXPECT_EQ(config->model_type, "");
  EXPECT_EQ(config->attention.score_cap, 30.0);
  EXPECT_EQ(other.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(other), HasSubstr("GPT2LMHeadModel"));
}

// The keys that keyfan's configuration_grok.py has and hpcai-tech's has not.
TEST(FamilyConfigTest, ReadsTheOtherConfigOfGrok) {
  const auto config = ParsePatched(
      "grok1", R"({"model_type": "grok", "architectures": ["GrokForCausalLM"],
          "num_experts": null, "num_local_experts": 8, "hidden_act": "gelu",
          "max_attn_value": null, "rope_theta": 10000.0})");

  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->family, "grok1");
  EXPECT_EQ(config->num_experts, 8);
  EXPECT_EQ(config->activation, Activation::kGelu);
  EXPECT_EQ(config->attention.score_cap, 30.0);
  EXPECT_TRUE(config->tied_embeddings);
}

}  // namespace
}  // namespace moescope::model
