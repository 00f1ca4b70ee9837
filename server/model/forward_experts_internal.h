#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "server/model/forward_kernels_internal.h"
#include "server/model/resident_weights_internal.h"

#include "moescope/model/forward.h"

namespace moescope::model::internal {

/// The routed experts of one layer for a whole batch of T tokens.
struct ExpertTask {
  std::int64_t layer = 0;
  const ModelConfig* config = nullptr;
  const ResidentLayer* weights = nullptr;
  std::int64_t num_tokens = 0;    // T
  at::Tensor moe_input;           // [R, D]; R = T in whole tiles
  std::vector<std::int64_t> ids;  // [T, K] on the host
  at::Tensor topk_weights;        // [R, K]
  /// Not null: every expert on every token, shown to it.
  ForwardObserver* observer = nullptr;
};

/// Evaluates the experts block of rows by block of rows and writes the weighted
/// sums, added in the order j = 0 … K-1 of the choices, to `routed` [R, D]
/// unless that is undefined. Where the router scales the experts' input, the
/// sum is that of the outputs for the scaled input, and what the observer sees
/// is for the input as it is. Holds outputs per choice for one block alone.
absl::Status RunExperts(const PassResources& pass, const ExpertTask& task,
                        const at::Tensor& routed);

}  // namespace moescope::model::internal
