#pragma once

#include <cstdint>

// Products of a matrix with a few vectors, one core each, dispatched at run
// time.
namespace moescope::numerics::internal {

/// Vectors that are multiplied together.
inline constexpr std::int64_t kBlockWidth = 8;

/// A matrix to multiply: entry (r, t) is r · row_stride + t · col_stride after
/// `data`.
struct BlockFactor {
  const double* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 1;
};

/// out[r, v] = Σ_t factor(r, t) block[t, v]; both have kBlockWidth columns. The
/// factor is read once, at the rate of memory where no cache holds it.
void MultiplyBlock(const BlockFactor& factor, const double* block, double* out);

}  // namespace moescope::numerics::internal
