#pragma once

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "moescope/numerics/neuron_cosine.h"

namespace moescope::numerics::internal {

/// INVALID_ARGUMENT unless there are 1 to 3 pairs, all of one number of
/// neurons, each with neurons of one length on both sides.
absl::Status CheckPairs(absl::Span<const NeuronPair> pairs);

}  // namespace moescope::numerics::internal
