#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope::model {

enum class Activation { kSilu };

/// How a router turns logits [T, E] into chosen experts and weights. A family
/// file fills it from config.json; `rule` names the row of the router table
/// (server/model/router_rules.cc), the other fields are that rule's parameters.
struct RouterConfig {
  std::string rule;  ///< "softmax_topk", ...
  std::int64_t experts_per_token = 0;  ///< K
  bool renormalise = false;  ///< Divide the K weights by their sum.
  double scaling = 1.0;      ///< Factor on the weights.
};

/// What config.json says, in one spelling for all families. Shapes are checked
/// against the tensors when the checkpoint is opened.
struct ModelConfig {
  std::string family;      ///< Row of the family table: "mixtral".
  std::string model_type;  ///< As in config.json.
  std::int64_t num_layers = 0;
  std::int64_t width = 0;  ///< D
  std::int64_t vocab_size = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_positions = 0;
  double norm_epsilon = 1e-5;
  double rope_theta = 10000.0;
  /// A token sees itself and the `sliding_window` - 1 before it.
  std::optional<std::int64_t> sliding_window;
  bool attention_bias = false;
  bool tied_embeddings = false;
  Activation activation = Activation::kSilu;

  std::int64_t num_experts = 0;  ///< E; 0 for a dense model.
  std::int64_t expert_width = 0;  ///< F of a routed expert.
  std::int64_t dense_width = 0;  ///< F of dense layers.
  std::int64_t num_shared_experts = 0;
  std::int64_t shared_width = 0;  ///< F of the shared block (all together).
  RouterConfig router;
  std::vector<bool> is_moe_layer;  ///< One per layer.

  /// Numbers of the layers that have a router, rising.
  std::vector<std::int64_t> MoeLayers() const;
};

/// Reads the text of a config.json.
/// Errors: DATA_LOSS for text that is no JSON object, a missing or wrongly
/// typed key, or a value outside its range (names the key); UNIMPLEMENTED for
/// an unknown model_type (lists the known ones), an activation, quantisation or
/// RoPE scaling that is not supported (names it).
absl::StatusOr<ModelConfig> ParseConfig(absl::string_view json_text);

/// model_type values that ParseConfig accepts, sorted.
std::vector<std::string> KnownModelTypes();

/// The routing rule in words: "softmax over 8, top-2, renormalised".
std::string DescribeRouter(const ModelConfig& config);

}  // namespace moescope::model
