#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "moescope/numerics/matrix_view.h"
#include "moescope/numerics/widen_rows.h"

namespace moescope::numerics::internal {

/// Whether products of packed panels are wanted here (ChooseBFloat16Products) and
/// this processor has products of bf16 pairs.
bool UseBFloat16Panels();

/// Lines of a panel.
inline constexpr std::int64_t kPanelLines = 16;
/// Lines of the left and of the right side that a register tile takes.
inline constexpr std::int64_t kLeftLines = 8;
inline constexpr std::int64_t kRightLines = 48;
/// Depth within which products are summed in fp32.
inline constexpr std::int64_t kDepthBlock = 512;
/// Pairs of numbers that are laid out together.
inline constexpr std::int64_t kPairGroup = 16;

/// Of the lines of a panel, in fp64.
struct PanelStatistics {
  double sums[kPanelLines];
  double squares[kPanelLines];
  float low[kPanelLines];
  float high[kPanelLines];
};

/// Lines of bf16 numbers, laid out for the products of all with all others:
/// block of depth after block, in it panels of 16 lines, in these two numbers
/// of each line at a time. Lines and depth are padded with zeros.
/// Only where UseBFloat16Panels().
/// Threads: Pack of different panels may run together, reading after it.
class BFloat16Panels {
 public:
  /// Whether a matrix can be packed: bf16, rows or columns in one piece.
  static bool Fits(const MatrixView& view) {
    return view.type == ElementType::kBFloat16 &&
           (view.col_stride == 1 || view.row_stride == 1);
  }

  /// Room for `lines`, rounded up to a multiple of kRightLines. Memory is kept.
  void Resize(std::int64_t lines, std::int64_t depth);
  /// Packs the rows of `block`, lines 16 · panel and so on up to 16 of them;
  /// `block` has all lines, its columns are the depth.
  void Pack(const MatrixView& view, const MatrixBlock& block,
            std::int64_t panel) {
    Pack(view, block, panel, 1);
  }
  /// `count` panels from `first` on at once: where lines lie side by side they
  /// share cache lines.
  void Pack(const MatrixView& view, const MatrixBlock& block,
            std::int64_t first, std::int64_t count);

  std::int64_t panels() const { return panels_; }
  std::int64_t depth() const { return depth_; }
  std::int64_t num_blocks() const {
    return (depth_ + kDepthBlock - 1) / kDepthBlock;
  }
  /// Pairs of numbers of a line in `block`.
  std::int64_t PairsOf(std::int64_t block) const;
  /// Words of a panel in `block`, [pairs, 16]: two numbers each, the first in
  /// the low half.
  const std::uint32_t* PanelOf(std::int64_t block, std::int64_t panel) const;
  PanelStatistics StatisticsOf(std::int64_t panel) const;
  /// The squares alone: of each line, [kPanelLines].
  std::array<double, kPanelLines> SquaresOf(std::int64_t panel) const;

 private:
  std::int64_t Offset(std::int64_t block, std::int64_t panel) const;

  std::int64_t panels_ = 0;
  std::int64_t depth_ = 0;
  std::size_t capacity_ = 0;
  // Not a vector: its zeros would touch all memory once more.
  std::unique_ptr<std::uint32_t[]> words_;
};

/// Lines first … first + count of a side of a product; `first` is a multiple of
/// kLeftLines on the left, of kRightLines on the right.
struct LineRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// Sets out[i · stride + j] to the product of line left.first + i of `a` with
/// line right.first + j of `b`, of one depth: the processor's bf16 products,
/// summed in fp32 over kDepthBlock, in fp64 beyond. `out` has room for both
/// counts rounded up to a multiple of kLeftLines and of kRightLines. `upper`:
/// register tiles whose right lines all come before their left ones become 0.
void MultiplyPanels(const BFloat16Panels& a, LineRange left,
                    const BFloat16Panels& b, LineRange right, bool upper,
                    double* out, std::int64_t stride);

/// Sets out[j] to products[j] · left · right[j], or adds it.
void ScaleProducts(const double* products, std::int64_t count, double left,
                   const double* right, bool add, float* out);

}  // namespace moescope::numerics::internal
