#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

namespace moescope::numerics::internal {

/// A symmetric matrix in fp64 as square tiles, those of the lower half alone,
/// each in one piece of memory: what reads a tile meets no two rows a power of
/// two apart. Tiles on the diagonal hold both their halves.
/// Letters: n lines, numbered (i, j) as the matrix; I ≥ J number tiles.
class SymmetricTiles {
 public:
  /// A multiple of the band's width and of what products of packed lines ask of
  /// their right side; three tiles fit the second-level cache.
  static constexpr std::int64_t kTile = 192;

  /// Throws c10::Error where memory is out. Contents are not set.
  explicit SymmetricTiles(std::int64_t size);

  std::int64_t size() const { return size_; }
  /// Rows of tiles.
  std::int64_t lines() const { return (size_ + kTile - 1) / kTile; }
  std::int64_t num_tiles() const { return lines() * (lines() + 1) / 2; }
  /// Lines of the matrix in tile row I.
  std::int64_t LengthOf(std::int64_t tile_row) const {
    return std::min(kTile, size_ - tile_row * kTile);
  }
  /// Tile (I, J) without what lies beyond the matrix. [≤ kTile, ≤ kTile]
  at::Tensor Tile(std::int64_t tile_row, std::int64_t tile_col) const;

  struct Index {
    std::int64_t row = 0;
    std::int64_t col = 0;
  };
  /// The tile of this number, in [0, num_tiles()).
  static Index IndexOf(std::int64_t number);

 private:
  std::int64_t size_;
  at::Tensor memory_;  // [tiles, kTile, kTile]
};

}  // namespace moescope::numerics::internal
