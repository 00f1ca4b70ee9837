#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace moescope::model {

// The letters of every shape comment:
//   L layers · T tokens · E routed experts · K experts per token · D model
//   width · F expert width · V vocabulary · H attention heads · N participants
//   of a comparison (routed experts, then "S" shared, then "F" dense baseline).

/// The three matrices of an expert or dense feed-forward block:
///   output = down_proj (act(gate_proj x) ⊙ up_proj x)
/// gate_proj and up_proj are [F, D], down_proj is [D, F]. Neuron i is row i of
/// the first two and column i of the third.
enum class Projection { kGate = 0, kUp = 1, kDown = 2 };
inline constexpr int kNumProjections = 3;

/// "gate_proj", "up_proj", "down_proj".
absl::string_view ProjectionName(Projection projection);

}  // namespace moescope::model
