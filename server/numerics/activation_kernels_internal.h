#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace moescope::numerics::internal {

/// Running values of a neuron, over all rows and, kRouted further on, over
/// routed rows.
enum Plane : std::size_t {
  kSum,
  kSumAbs,
  kSquares,
  kOver,  // rows with |a| above the first threshold
  kMax,   // of finite values
  kRouted,
  kNumPlanes = 2 * kRouted,
};

/// Distance to a threshold below which rounding may move a value across.
inline constexpr double kNearThreshold = 1e-6;

/// One block for one expert and where its sums go.
struct ActivationWork {
  const float* values = nullptr;  // [rows, width]
  std::int64_t rows = 0;
  std::int64_t row_stride = 0;
  std::int64_t width = 0;
  const std::uint8_t* routed = nullptr;  // [rows]
  absl::Span<const double> thresholds;   // [H]
  std::array<double*, kNumPlanes> planes = {};  // each [width]
  std::int64_t* over = nullptr;                 // [H]
  std::int64_t* over_routed = nullptr;          // [H]
  std::int64_t near_threshold = 0;
  std::int64_t nonfinite = 0;
};

/// Adds the block to the planes, row after row, and to the counts.
void AccumulateActivations(ActivationWork& work);

}  // namespace moescope::numerics::internal
