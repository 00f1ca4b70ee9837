// What of config.json a forward pass alone needs: where it is wrong or not
// supported, the weights can be analysed all the same.
#include <ostream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "moescope/model/config.h"
#include "tests/model/patched_config.h"

namespace moescope::model {
namespace {

using ::testing::HasSubstr;

struct Forbidden {
  const char* name;
  const char* fixture;
  const char* patch;
  absl::StatusCode code;
  const char* cause;
};

// Without it gtest prints bytes, addresses among them, into test names.
void PrintTo(const Forbidden& row, std::ostream* out) { *out << row.name; }

class ForwardStatusTest : public ::testing::TestWithParam<Forbidden> {};

TEST_P(ForwardStatusTest, ForbidsForwardPassesAlone) {
  const auto whole = ParsePatched(GetParam().fixture, "{}");
  const auto config = ParsePatched(GetParam().fixture, GetParam().patch);

  ASSERT_TRUE(whole.ok()) << whole.status();
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(whole->forward_status.ok()) << whole->forward_status;
  EXPECT_EQ(config->forward_status.code(), GetParam().code);
  EXPECT_THAT(std::string(config->forward_status.message()),
              HasSubstr(GetParam().cause));
}

constexpr absl::StatusCode kDataLoss = absl::StatusCode::kDataLoss;
constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;

INSTANTIATE_TEST_SUITE_P(
    Table, ForwardStatusTest,
    ::testing::Values(
        Forbidden{"OldRopeKind", "mixtral",
                  R"({"rope_scaling": {"type": "mrope"}})", kUnimplemented,
                  "rope_scaling.type: \"mrope\" is not supported (default, "
                  "linear, dynamic, yarn, longrope, llama3 are)"},
        Forbidden{"NewRopeKind", "mixtral",
                  R"({"rope_parameters": {"rope_type": "proportional"}})",
                  kUnimplemented,
                  "rope_parameters.rope_type: \"proportional\""},
        Forbidden{"KindOfLayer", "qwen2_moe",
                  R"({"layer_types": ["full_attention", "linear_attention",
                      "full_attention"]})",
                  kUnimplemented, "layer_types[1]: \"linear_attention\""},
        Forbidden{"OddHeadDim", "mixtral", R"({"head_dim": 5})", kDataLoss,
                  "head_dim: is 5, must be even"},
        Forbidden{"TwoThetas", "mixtral",
                  R"({"rope_parameters": {"rope_theta": 10}})", kDataLoss,
                  "rope_theta: is 1e+06, but rope_parameters.rope_theta "
                  "is 10"},
        Forbidden{"TwoThetasInTheOldObject", "mixtral",
                  R"({"rope_scaling": {"type": "linear", "factor": 2,
                      "rope_theta": 10}})", kDataLoss,
                  "rope_theta: is 1e+06, but rope_scaling.rope_theta is 10; "
                  "they must agree"},
        Forbidden{"TwoKinds", "mixtral",
                  R"({"rope_scaling": {"type": "linear", "rope_type": "yarn",
                      "factor": 2}})", kDataLoss,
                  "rope_scaling.type: is \"linear\", but "
                  "rope_scaling.rope_type is \"yarn\"; they must agree"},
        Forbidden{"TwoRotations", "mixtral",
                  R"({"partial_rotary_factor": 0.2, "rope_parameters": {
                      "rope_theta": 1e6, "partial_rotary_factor": 0.4}})",
                  kDataLoss,
                  "partial_rotary_factor: is 0.2, but "
                  "rope_parameters.partial_rotary_factor is 0.4"},
        Forbidden{"TwoOriginalLengths", "phimoe",
                  R"({"original_max_position_embeddings": 7})", kDataLoss,
                  "original_max_position_embeddings: is 7, but rope_scaling."
                  "original_max_position_embeddings is "},
        Forbidden{"TwoScalings", "mixtral",
                  R"({"rope_parameters": {"rope_type": "default"},
                      "rope_scaling": {"type": "yarn", "factor": 4}})",
                  kDataLoss,
                  "rope_parameters: says \"default\" by factor 1, but "
                  "rope_scaling says \"yarn\" by factor 4"},
        Forbidden{"LinearWithoutFactor", "mixtral",
                  R"({"rope_scaling": {"type": "linear"}})", kDataLoss,
                  "rope_scaling.factor: missing"},
        Forbidden{"YarnOfOneFrequency", "mixtral",
                  R"({"rope_theta": 1, "rope_scaling": {"type": "yarn",
                      "factor": 4}})", kDataLoss,
                  "rope_theta: is 1, must be above 1 for yarn"},
        Forbidden{"ClipBeyondFloatsOfDbrx", "dbrx",
                  R"({"attn_config": {"clip_qkv": 1e308}})", kDataLoss,
                  "clip_qkv: is 1e+308, must be a number above 0 within fp32"},
        Forbidden{"LongropeWithoutFactors", "mixtral",
                  R"({"rope_scaling": {"type": "longrope",
                      "original_max_position_embeddings": 32}})",
                  kDataLoss, "rope_scaling.short_factor: missing"},
        Forbidden{"LongropeWithFewFactors", "mixtral",
                  R"({"rope_scaling": {"type": "longrope",
                      "original_max_position_embeddings": 32,
                      "short_factor": [1, 2], "long_factor": [1, 2]}})",
                  kDataLoss, "short_factor: has 2 numbers, must have 5"},
        Forbidden{"LongropeWithAZero", "mixtral",
                  R"({"rope_scaling": {"type": "longrope",
                      "original_max_position_embeddings": 32,
                      "short_factor": [1, 0, 1, 1, 1]}})",
                  kDataLoss, "short_factor[1]: is 0, must be a number"},
        Forbidden{"Llama3Frequencies", "mixtral",
                  R"({"rope_scaling": {"type": "llama3", "factor": 8,
                      "original_max_position_embeddings": 32,
                      "low_freq_factor": 4, "high_freq_factor": 3.5}})",
                  kDataLoss,
                  "high_freq_factor: is 3.5, must be at least low_freq_factor "
                  "4"},
        Forbidden{"OddRotation", "mixtral",
                  R"({"partial_rotary_factor": 0.5})", kDataLoss,
                  "partial_rotary_factor: is 0.5, which rotates 5 of a "
                  "head's 10 coordinates"},
        Forbidden{"LayerTypes", "qwen2_moe",
                  R"({"layer_types": ["full_attention"]})", kDataLoss,
                  "layer_types: has 1 entries, must have 3"},
        Forbidden{"RopeOfLatentAttention", "deepseek_v2",
                  R"({"rope_scaling": 4})", kDataLoss,
                  "rope_scaling: is 4, must be"},
        Forbidden{"RopeOfGptOss", "gpt_oss", R"({"rope_scaling": 4})",
                  kDataLoss, "rope_scaling: is 4, must be"},
        Forbidden{"RopeOfDbrx", "dbrx",
                  R"({"rope_scaling": {"type": "linear"}})", kDataLoss,
                  "rope_scaling.factor: missing"},
        Forbidden{"ClipOfDbrx", "dbrx",
                  R"({"attn_config": {"clip_qkv": -1}})", kDataLoss,
                  "clip_qkv: is -1, must be a number above 0"},
        Forbidden{"LayersWithoutRope", "llama4_text",
                  R"({"no_rope_layers": [1]})", kDataLoss,
                  "no_rope_layers: has 1 entries, must have 4"},
        Forbidden{"Window", "mixtral", R"({"sliding_window": -1})", kDataLoss,
                  "sliding_window: is -1"},
        Forbidden{"WindowLayers", "qwen2_moe",
                  R"({"max_window_layers": -1})", kDataLoss,
                  "max_window_layers: is -1"},
        Forbidden{"HeadsOfJetmoe", "jetmoe", R"({"num_attention_heads": 8})",
                  kDataLoss,
                  "num_attention_heads: is 8, must be num_key_value_heads 2 "
                  "times the 2 experts per token"}),
    [](const ::testing::TestParamInfo<Forbidden>& row) {
      return std::string(row.param.name);
    });

}  // namespace
}  // namespace moescope::model
