#include <cstdint>
#include <string>
#include <vector>

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"
#include "server/model/families/stacked_experts_internal.h"

// Attention with a router of its own, which chooses K of E groups of query
// heads and their output maps; keys and values are shared. Source: JetMoE,
// arXiv 2404.07413, section 2.3; transformers 5.23, modeling_jetmoe.py.

namespace moescope::model::internal {
namespace {

// The maps of all experts of the attention into, or out of, their heads.
absl::StatusOr<std::vector<LinearTensors>> BindMaps(const TensorBinder& binder,
                                                    const std::string& name,
                                                    std::int64_t rows,
                                                    std::int64_t cols) {
  const std::int64_t experts = binder.config().num_experts;
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<numerics::MatrixView> views,
      BindStack(binder, {name, {experts, rows, cols}, 0, rows * cols, cols},
                rows, cols));
  std::vector<LinearTensors> maps(views.size());
  for (std::size_t e = 0; e < views.size(); ++e) maps[e].weight = views[e];
  return maps;
}

}  // namespace

absl::Status BindMixtureAttention(const TensorBinder& binder,
                                  const std::string& prefix,
                                  AttentionTensors& attention) {
  const ModelConfig& config = binder.config();
  const std::int64_t keys = config.num_kv_heads * config.head_dim;
  const std::string experts = prefix + "experts.";
  MOESCOPE_ASSIGN_OR_RETURN(
      const TensorEntry* fused,
      binder.Require(prefix + "kv_proj.weight", {2 * keys, config.width}));
  attention.k.weight = ViewRows(*fused, 0, keys, config.width);
  attention.v.weight =
      ViewRows(*fused, keys * config.width, keys, config.width);
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.router,
      binder.RequireLinear(experts + "router.layer", config.num_experts,
                           config.width, /*has_bias=*/false));
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.inputs, BindMaps(binder, experts + "input_linear.weight", keys,
                                 config.width));
  MOESCOPE_ASSIGN_OR_RETURN(
      attention.outputs, BindMaps(binder, experts + "output_linear.weight",
                                  config.width, keys));
  MOESCOPE_ASSIGN_OR_RETURN(attention.mixture_bias,
                            binder.Require(experts + "bias", {config.width}));
  return absl::OkStatus();
}

}  // namespace moescope::model::internal
