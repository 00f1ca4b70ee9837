#pragma once

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "server/model/self_attention_internal.h"

namespace moescope::model::internal {

/// SelfAttention of kind kMixture (JetMoE, arXiv 2404.07413, section 2.3;
/// transformers 5.23, modeling_jetmoe.py): each token's router chooses K of E
/// experts. The j-th chosen one maps x to one query head per key/value head;
/// the K heads of a key/value head attend to it alike. Each expert then maps
/// what its own heads saw back to D; outputs are added, each times the softmax
/// over the chosen logits, and the bias.
absl::Status MixtureAttention(const PassResources& pass,
                              const AttentionLayer& layer,
                              const at::Tensor& input, const at::Tensor& out);

}  // namespace moescope::model::internal
