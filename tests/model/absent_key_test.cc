// What becomes of a config.json that lacks a key: the key is refused by name,
// or it has a default in the family's config class, or it means nothing here.

#include <algorithm>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_split.h"
#include "moescope/model/config.h"
#include "server/model/families/family_internal.h"
#include "tests/model/config_text.h"
#include "tests/model/safetensors_bytes.h"

namespace moescope::model {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAreArray;

// Keys of a fixture's config.json, between blanks; below an object as
// "object.key".
struct Keys {
  const char* fixture;
  /// That there is no model without.
  const char* required;
  /// Whose absence makes another model than the fixture's: the class's default
  /// is another value.
  const char* defaulted;
};

void PrintTo(const Keys& keys, std::ostream* out) { *out << keys.fixture; }

std::vector<std::string> Words(const char* text) {
  return absl::StrSplit(text, ' ', absl::SkipEmpty());
}

json ReadConfig(const std::string& fixture) {
  return json::parse(ReadBytes(MOESCOPE_SOURCE_DIR
                               "/tests/testdata/fixtures/" +
                               fixture + "/config.json"));
}

// Pointers (RFC 6901) to all keys of the object and of those in it.
std::vector<json::json_pointer> KeysOf(const json& object,
                                       const json::json_pointer& above =
                                           json::json_pointer()) {
  std::vector<json::json_pointer> keys;
  for (const auto& item : object.items()) {
    keys.push_back(above / item.key());
    if (item.value().is_object()) {
      const auto below = KeysOf(item.value(), keys.back());
      keys.insert(keys.end(), below.begin(), below.end());
    }
  }
  return keys;
}

std::string Dotted(const json::json_pointer& key) {
  std::string text = key.to_string().substr(1);
  std::replace(text.begin(), text.end(), '/', '.');
  return text;
}

class AbsentKeyTest : public ::testing::TestWithParam<Keys> {};

TEST_P(AbsentKeyTest, IsRefusedByNameOrHasADefault) {
  const json whole = ReadConfig(GetParam().fixture);
  const auto model = ParseConfig(whole.dump());
  ASSERT_TRUE(model.ok()) << model.status();
  std::vector<std::string> refused;
  std::vector<std::string> defaulted;

  for (const json::json_pointer& key : KeysOf(whole)) {
    json without = whole;
    without.at(key.parent_pointer()).erase(key.back());
    const auto parsed = ParseConfig(without.dump());
    if (!parsed.ok() || !parsed->forward_status.ok()) {
      refused.push_back(Dotted(key));
      EXPECT_THAT(std::string((parsed.ok() ? parsed->forward_status
                                           : parsed.status())
                                  .message()),
                  HasSubstr(key.back()));
    } else if (Text(*parsed) != Text(*model)) {
      defaulted.push_back(Dotted(key));
    }
  }

  EXPECT_THAT(refused,
              UnorderedElementsAreArray(Words(GetParam().required)));
  EXPECT_THAT(defaulted,
              UnorderedElementsAreArray(Words(GetParam().defaulted)));
}

constexpr Keys kFixtures[] = {
    {"mixtral",
     "hidden_size intermediate_size model_type num_attention_heads "
     "num_hidden_layers num_key_value_heads num_local_experts vocab_size",
     "max_position_embeddings"},
    {"mistral",
     "hidden_size intermediate_size model_type num_attention_heads "
     "num_hidden_layers num_key_value_heads vocab_size",
     "head_dim max_position_embeddings rms_norm_eps sliding_window"},
    {"llama",
     "hidden_size intermediate_size model_type num_attention_heads "
     "num_hidden_layers vocab_size",
     "head_dim max_position_embeddings num_key_value_heads rms_norm_eps"},
    {"deepseek",
     "hidden_size intermediate_size model_type moe_intermediate_size "
     "n_routed_experts num_attention_heads num_experts_per_tok "
     "num_hidden_layers vocab_size",
     "first_k_dense_replace max_position_embeddings n_shared_experts "
     "num_key_value_heads rms_norm_eps"},
    {"deepseek_v2",
     "hidden_size intermediate_size kv_lora_rank model_type "
     "moe_intermediate_size n_group n_routed_experts num_attention_heads "
     "num_experts_per_tok num_hidden_layers qk_nope_head_dim "
     "qk_rope_head_dim rope_scaling.type topk_group v_head_dim "
     "vocab_size",
     "first_k_dense_replace max_position_embeddings q_lora_rank "
     "rope_scaling rope_scaling.beta_fast rope_scaling.factor "
     "rope_scaling.mscale rope_scaling.mscale_all_dim "
     "rope_scaling.original_max_position_embeddings rope_theta "
     "routed_scaling_factor topk_method"},
    {"deepseek_v3",
     "hidden_size intermediate_size kv_lora_rank model_type "
     "moe_intermediate_size n_routed_experts num_attention_heads "
     "num_hidden_layers qk_nope_head_dim qk_rope_head_dim "
     "rope_scaling.type v_head_dim vocab_size",
     "first_k_dense_replace max_position_embeddings n_group "
     "num_experts_per_tok q_lora_rank rms_norm_eps rope_scaling "
     "rope_scaling.beta_fast rope_scaling.factor rope_scaling.mscale "
     "rope_scaling.mscale_all_dim "
     "rope_scaling.original_max_position_embeddings rope_theta "
     "topk_group"},
    {"deepseek_v3_fp8",
     "hidden_size intermediate_size kv_lora_rank model_type "
     "moe_intermediate_size n_routed_experts num_attention_heads "
     "num_hidden_layers qk_nope_head_dim qk_rope_head_dim "
     "quantization_config.quant_method rope_scaling.type v_head_dim "
     "vocab_size",
     "first_k_dense_replace max_position_embeddings n_group "
     "num_experts_per_tok q_lora_rank quantization_config "
     "quantization_config.weight_block_size rms_norm_eps rope_scaling "
     "rope_scaling.beta_fast rope_scaling.factor rope_scaling.mscale "
     "rope_scaling.mscale_all_dim "
     "rope_scaling.original_max_position_embeddings rope_theta "
     "topk_group"},
    {"qwen2_moe",
     "hidden_size intermediate_size model_type moe_intermediate_size "
     "num_attention_heads num_experts num_hidden_layers "
     "num_key_value_heads shared_expert_intermediate_size vocab_size",
     "max_position_embeddings mlp_only_layers num_experts_per_tok "
     "rms_norm_eps rope_theta"},
    {"qwen3_moe_sparse_step",
     "head_dim hidden_size intermediate_size model_type "
     "moe_intermediate_size num_attention_heads num_experts "
     "num_hidden_layers num_key_value_heads vocab_size",
     "attention_bias decoder_sparse_step max_position_embeddings "
     "num_experts_per_tok rms_norm_eps rope_theta tie_word_embeddings"},
    {"olmoe",
     "hidden_size intermediate_size model_type num_attention_heads "
     "num_experts num_hidden_layers vocab_size",
     "clip_qkv max_position_embeddings num_experts_per_tok "
     "num_key_value_heads"},
    {"phimoe",
     "hidden_size intermediate_size model_type num_attention_heads "
     "num_hidden_layers num_key_value_heads num_local_experts "
     "rope_scaling.long_factor rope_scaling.short_factor "
     "rope_scaling.type vocab_size",
     "attention_bias lm_head_bias max_position_embeddings rms_norm_eps "
     "rope_scaling rope_scaling.long_mscale rope_scaling.short_mscale "
     "rope_theta router_jitter_noise sliding_window"},
    {"gpt_oss",
     "hidden_size intermediate_size model_type num_attention_heads "
     "num_hidden_layers num_key_value_heads num_local_experts "
     "rope_scaling.rope_type vocab_size",
     "head_dim max_position_embeddings rms_norm_eps rope_scaling "
     "rope_scaling.factor rope_scaling.original_max_position_embeddings "
     "rope_scaling.truncate rope_theta sliding_window swiglu_limit"},
    {"gpt_oss_mxfp4",
     "hidden_size intermediate_size model_type num_attention_heads "
     "num_hidden_layers num_key_value_heads num_local_experts "
     "quantization_config.quant_method rope_scaling.rope_type vocab_size",
     "head_dim max_position_embeddings quantization_config rms_norm_eps "
     "rope_scaling rope_scaling.factor "
     "rope_scaling.original_max_position_embeddings "
     "rope_scaling.truncate rope_theta sliding_window swiglu_limit"},
    {"llama4_text_nested",
     "model_type text_config text_config.hidden_size "
     "text_config.intermediate_size text_config.num_attention_heads "
     "text_config.num_hidden_layers text_config.num_key_value_heads "
     "text_config.num_local_experts text_config.rope_scaling.factor "
     "text_config.rope_scaling.high_freq_factor "
     "text_config.rope_scaling.low_freq_factor "
     "text_config.rope_scaling.original_max_position_embeddings "
     "text_config.rope_scaling.rope_type text_config.vocab_size",
     "text_config.attention_chunk_size text_config.floor_scale "
     "text_config.head_dim text_config.interleave_moe_layer_step "
     "text_config.intermediate_size_mlp "
     "text_config.max_position_embeddings text_config.rms_norm_eps "
     "text_config.rope_scaling text_config.rope_theta"},
    {"dbrx",
     "d_model ffn_config ffn_config.ffn_hidden_size "
     "ffn_config.moe_num_experts max_seq_len model_type n_heads n_layers "
     "vocab_size",
     "attn_config attn_config.clip_qkv attn_config.kv_n_heads "
     "attn_config.rope_theta ffn_config.moe_top_k"},
    {"jetmoe",
     "hidden_size intermediate_size kv_channels model_type "
     "num_hidden_layers num_key_value_heads num_local_experts vocab_size",
     "max_position_embeddings rms_norm_eps"},
    {"grok1",
     "hidden_size intermediate_size max_position_embeddings "
     "num_attention_heads num_hidden_layers num_key_value_heads "
     "vocab_size",
     "attn_output_multiplier rms_norm_eps"},
};

INSTANTIATE_TEST_SUITE_P(Families, AbsentKeyTest,
                         ::testing::ValuesIn(kFixtures),
                         [](const ::testing::TestParamInfo<Keys>& row) {
                           return std::string(row.param.fixture);
                         });

TEST(AbsentKeysTest, HaveARowOfEveryFamily) {
  std::set<std::string> covered;
  for (const Keys& keys : kFixtures) {
    covered.insert(ParseConfig(ReadConfig(keys.fixture).dump())->family);
  }
  std::set<std::string> registered;
  for (const internal::Family& family : internal::Families()) {
    registered.insert(family.name);
  }
  EXPECT_EQ(covered, registered);
}

}  // namespace
}  // namespace moescope::model
