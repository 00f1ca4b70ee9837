#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/numerics/activation_accumulator.h"
#include "moescope/spec/analysis_spec.h"

namespace moescope::analysis::internal {

/// What activation_statistics carries from block to block.
struct ActivationState {
  std::int64_t blocks_done = 0;
  /// One per layer of the Spec.
  std::vector<std::unique_ptr<numerics::ActivationAccumulator>> layers;
};

/// The state before the first block.
absl::StatusOr<ActivationState> NewActivationState(
    const spec::ActivationStatisticsSpec& spec,
    const numerics::ActivationOptions& options);

/// Little-endian: magic with version, SHA-256 of what the state belongs to,
/// blocks done, layers, then each accumulator with its length before it.
std::string EncodeActivationState(const spec::ActivationStatisticsSpec& spec,
                                  const ActivationState& state);

/// Errors: DATA_LOSS (damaged, of another version or of another Spec).
absl::StatusOr<ActivationState> DecodeActivationState(
    const spec::ActivationStatisticsSpec& spec,
    const numerics::ActivationOptions& options, absl::string_view bytes);

}  // namespace moescope::analysis::internal
