#pragma once

#include "absl/status/status.h"
#include "server/model/forward_kernels_internal.h"
#include "server/model/resident_weights_internal.h"
#include "server/model/router_rules_internal.h"

#include "moescope/model/config.h"
#include "moescope/model/forward.h"

namespace moescope::model::internal {

/// What a pass reads; all of it outlives the pass.
struct PassModel {
  const ModelConfig& config;
  const ResidentWeights& weights;
  /// nullptr for a dense model.
  const RouterRule* rule = nullptr;
};

/// Checks `batch` and `request` against `config`.
/// Errors: INVALID_ARGUMENT field "tokens" (empty, a length below 1, lengths
/// that do not sum up) and "layers" (not rising); OUT_OF_RANGE field "tokens"
/// (id outside the vocabulary, sequence too long) and "layers".
absl::Status ValidatePass(const ModelConfig& config, const TokenBatch& batch,
                          const ForwardRequest& request);

/// Runs a validated pass. The calling thread is under RunTorch.
absl::Status RunPass(const PassModel& model, const TokenBatch& batch,
                     const ForwardRequest& request, ForwardObserver& observer,
                     const PassResources& pass);

}  // namespace moescope::model::internal
