#pragma once

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/model/config.h"

namespace moescope::model {

inline std::string Text(const RopeConfig& r) {
  return absl::StrCat(
      r.kind, " ", r.theta, " ", r.dim, " ", r.interleaved, " ", r.factor, " ",
      r.original_positions, " ", r.beta_fast, " ", r.beta_slow, " ",
      r.truncate, " ", r.low_frequency_factor, " ", r.high_frequency_factor,
      " [", absl::StrJoin(r.short_factors, " "), "] [",
      absl::StrJoin(r.long_factors, " "), "] ", r.attention_factor, " ",
      r.long_attention_factor);
}

inline std::string Text(const AttentionConfig& a) {
  return absl::StrCat(
      static_cast<int>(a.kind), " ", static_cast<int>(a.query_key_norm), " ",
      a.query_key_norm_epsilon, " ", a.scale.value_or(0), " ",
      a.score_cap.value_or(0), " ", a.clip_qkv.value_or(0), " ", a.sinks, " ",
      a.q_rank, " ", a.kv_rank, " ", a.nope_dim, " ", a.rope_dim, " ",
      a.value_dim, " ", a.temperature_scale.value_or(0), " ",
      a.temperature_floor);
}

inline std::string Text(const RouterConfig& r) {
  return absl::StrCat(r.rule, " ", r.experts_per_token, " ", r.renormalise, " ",
                      r.scaling, " ", r.num_groups, " ", r.groups_kept, " ",
                      r.masked_groups_are_zero, " ", r.corrected, " ", r.jitter,
                      " ", r.scales_input);
}

inline std::string Text(const LayerConfig& l) {
  return absl::StrCat(l.is_moe, " ", l.sliding_window.value_or(0), " ",
                      l.attention_chunk.value_or(0), " ", l.rotates);
}

/// Every field, so that two configs with the same text mean the same model.
inline std::string Text(const ModelConfig& c) {
  std::string text = absl::StrCat(
      c.family, " ", c.model_type, " ", c.num_layers, " ", c.width, " ",
      c.vocab_size, " ", c.num_heads, " ", c.num_kv_heads, " ", c.head_dim, " ",
      c.max_positions, " ", static_cast<int>(c.norm), " ", c.norm_epsilon, " ",
      c.final_norm_epsilon.value_or(0), "\nrope ", Text(c.rope),
      "\nattention ", Text(c.attention), "\nrouter ", Text(c.router), "\n");
  absl::StrAppend(&text, c.qkv_bias, " ", c.output_bias, " ", c.norm_bias, " ",
                  c.head_bias, " ", c.tied_embeddings, " ", c.embedding_scale,
                  " ", c.logit_scale, " ", static_cast<int>(c.activation), " ",
                  c.swiglu_limit, " ", c.swiglu_alpha, " ");
  absl::StrAppend(&text, c.num_experts, " ", c.expert_width, " ",
                  c.dense_width, " ", c.num_shared_experts, " ", c.shared_width,
                  " ", static_cast<int>(c.quantisation), " ",
                  c.scale_block_rows, " ", c.scale_block_cols, " ",
                  c.forward_status.ToString());
  for (const LayerConfig& layer : c.layers) {
    absl::StrAppend(&text, "\nlayer ", Text(layer));
  }
  return text;
}

}  // namespace moescope::model
