#include "server/numerics/symmetric_tiles_internal.h"

#include <ATen/ATen.h>

namespace moescope::numerics::internal {

SymmetricTiles::SymmetricTiles(std::int64_t size)
    : size_(size), memory_(at::empty({num_tiles(), kTile, kTile}, at::kDouble)) {}

at::Tensor SymmetricTiles::Tile(std::int64_t tile_row,
                                std::int64_t tile_col) const {
  const std::int64_t number = tile_row * (tile_row + 1) / 2 + tile_col;
  return memory_.select(0, number)
      .narrow(0, 0, LengthOf(tile_row))
      .narrow(1, 0, LengthOf(tile_col));
}

SymmetricTiles::Index SymmetricTiles::IndexOf(std::int64_t number) {
  Index index;
  while (number > index.row) {
    number -= ++index.row;
  }
  index.col = number;
  return index;
}

}  // namespace moescope::numerics::internal
