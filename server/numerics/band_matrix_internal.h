#pragma once

#include <cstdint>
#include <vector>

namespace moescope::numerics::internal {

/// Diagonals below the main one. Wider bands make the reduction to a band
/// faster, and the chase of bulges, which costs 6 n² of these, slower.
inline constexpr std::int64_t kBand = 48;

/// The lower half of a symmetric band matrix in fp64, column after column, with
/// room for what a chase pushes out of the band: 2 kBand diagonals in all. Behind
/// the last row and column kBand others are zero, so that kernels meet whole
/// blocks only.
class BandMatrix {
 public:
  /// Between the same row of two columns.
  static constexpr std::int64_t kColumnStride = 2 * kBand + 7;

  explicit BandMatrix(std::int64_t size)
      : size_(size),
        values_(static_cast<std::size_t>(
            kAbove + (size + kBand) * (kColumnStride + 1))) {}

  std::int64_t size() const { return size_; }
  /// Entry (i, j), j ≤ i < j + 2 kBand. From there (i + r, j + c) lies r + c ·
  /// kColumnStride further.
  double* at(std::int64_t i, std::int64_t j) {
    return values_.data() + kAbove + i + j * kColumnStride;
  }
  const double* at(std::int64_t i, std::int64_t j) const {
    return values_.data() + kAbove + i + j * kColumnStride;
  }

 private:
  // Entries above the diagonal that a kernel loads and stores as part of a
  // vector: they stay zero.
  static constexpr std::int64_t kAbove = 8;
  static_assert(kColumnStride + 1 == 2 * kBand + kAbove);

  std::int64_t size_;
  std::vector<double> values_;
};

}  // namespace moescope::numerics::internal
