#include "moescope/numerics/neuron_cosine.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <exception>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/widen_rows.h"
#include "server/numerics/bfloat16_panels_internal.h"
#include "server/numerics/dot_kernels_internal.h"
#include "server/numerics/neuron_cosine_internal.h"

namespace moescope::numerics {

namespace internal {

absl::Status CheckPairs(absl::Span<const NeuronPair> pairs) {
  if (pairs.empty() || pairs.size() > 3) {
    return InvalidField("pairs",
                        absl::StrCat(pairs.size(), " pairs; allowed are 1 to 3"));
  }
  for (const NeuronPair& pair : pairs) {
    MOESCOPE_RETURN_IF_ERROR(CheckView("left", pair.left));
    MOESCOPE_RETURN_IF_ERROR(CheckView("right", pair.right));
    if (pair.left.rows != pairs[0].left.rows ||
        pair.right.rows != pair.left.rows ||
        pair.right.cols != pair.left.cols) {
      return InvalidField(
          "pairs", absl::StrCat("neurons [", pair.left.rows, ", ",
                                pair.left.cols, "] and [", pair.right.rows,
                                ", ", pair.right.cols, "] do not match"));
    }
  }
  return absl::OkStatus();
}

}  // namespace internal

namespace {

// Tiles follow from the shape alone.
constexpr std::int64_t kTileRows = 256;
constexpr std::int64_t kTileCols = 2048;
// Columns of one call of the BLAS library, which takes some ten milliseconds:
// that is how soon a cancellation is seen.
constexpr std::int64_t kProductCols = 512;
// Rows widened at once: columns that lie together in memory are read well.
constexpr std::int64_t kWidenRows = 64;
// Part of a tile whose fp64 products stay in the second-level cache.
constexpr std::int64_t kPartRows = 128;
constexpr std::int64_t kPartCols = 192;
// Squares of norms between which fp32 sums of products of the numbers as they
// are neither overflow nor lose anything that a cosine would show.
constexpr double kLeastSquare = 0x1p-60;
constexpr double kMostSquare = 0x1p100;

absl::Status NotFinite(std::int64_t neuron) {
  return InvalidField("pairs",
                      absl::StrCat("neuron ", neuron, " is not finite"));
}

// Neurons first … first + count of one side of a pair, ready for products: bf16
// numbers packed as they are, anything else in fp32 at length 1.
class Side {
 public:
  absl::Status Load(const MatrixView& view, std::int64_t first,
                    std::int64_t count, const RunContext& context) {
    view_ = view;
    first_ = first;
    count_ = count;
    is_normalised_ = false;
    is_packed_ = internal::UseBFloat16Panels() &&
                 internal::BFloat16Panels::Fits(view);
    return is_packed_ ? Pack(context) : Normalise(context);
  }

  // Whether products of the numbers as they are lose nothing.
  bool is_packed() const { return is_packed_; }
  const internal::BFloat16Panels& panels() const { return panels_; }
  const std::vector<double>& inverse_norms() const { return inverse_norms_; }

  // Rows at length 1, in fp32. [count, D]
  absl::StatusOr<at::Tensor> Normalised(const RunContext& context) {
    if (!is_normalised_) {
      MOESCOPE_RETURN_IF_ERROR(Normalise(context));
    }
    return rows_.narrow(0, 0, count_);
  }

 private:
  absl::Status Pack(const RunContext& context) {
    panels_.Resize(count_, view_.cols);
    inverse_norms_.assign(
        static_cast<std::size_t>(panels_.panels() * internal::kPanelLines),
        0.0);
    for (std::int64_t panel = 0; panel < panels_.panels(); ++panel) {
      MOESCOPE_RETURN_IF_ERROR(context.Check());
      panels_.Pack(view_, {first_, count_, 0, view_.cols}, panel);
      const internal::PanelStatistics statistics = panels_.StatisticsOf(panel);
      for (std::int64_t i = 0; i < internal::kPanelLines; ++i) {
        const std::int64_t line = panel * internal::kPanelLines + i;
        const double square = statistics.squares[i];
        if (!std::isfinite(square)) {
          return NotFinite(first_ + line);
        }
        if (square > 0) {
          inverse_norms_[static_cast<std::size_t>(line)] = 1 / std::sqrt(square);
          is_packed_ = is_packed_ && square >= kLeastSquare &&
                       square <= kMostSquare;
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status Normalise(const RunContext& context) {
    if (!rows_.defined() || rows_.size(0) < count_ ||
        rows_.size(1) != view_.cols) {
      rows_ = at::empty({count_, view_.cols}, at::kFloat);
    }
    for (std::int64_t r = 0; r < count_; r += kWidenRows) {
      MOESCOPE_RETURN_IF_ERROR(context.Check());
      const std::int64_t count = std::min(kWidenRows, count_ - r);
      float* const block = rows_.data_ptr<float>() + r * view_.cols;
      WidenRows(view_, first_ + r, count, block);
      for (std::int64_t i = 0; i < count; ++i) {
        float* const row = block + i * view_.cols;
        const double square = internal::DotFloats(row, row, view_.cols);
        if (!std::isfinite(square)) {
          return NotFinite(first_ + r + i);
        }
        const auto inverse =
            static_cast<float>(square > 0 ? 1 / std::sqrt(square) : 0.0);
        std::for_each(row, row + view_.cols,
                      [inverse](float& value) { value *= inverse; });
      }
    }
    is_normalised_ = true;
    return absl::OkStatus();
  }

  MatrixView view_;
  std::int64_t first_ = 0;
  std::int64_t count_ = 0;
  bool is_packed_ = false;
  bool is_normalised_ = false;
  internal::BFloat16Panels panels_;
  std::vector<double> inverse_norms_;  // 0 for a zero neuron and for padding
  at::Tensor rows_;
};

// Memory for the two sides of a tile.
class TileFiller {
 public:
  TileFiller(absl::Span<const NeuronPair> pairs, const RunContext& context)
      : pairs_(pairs),
        context_(context),
        size_(pairs[0].left.rows),
        left_(pairs.size()),
        right_(pairs.size()) {
    tile_ = at::empty({std::min(kTileRows, size_), std::min(kTileCols, size_)},
                      at::kFloat);
  }

  absl::Status Fill(SimilarityMatrix& out) {
    for (std::int64_t col = 0; col < size_; col += kTileCols) {
      const std::int64_t cols = std::min(kTileCols, size_ - col);
      for (std::size_t p = 0; p < pairs_.size(); ++p) {
        MOESCOPE_RETURN_IF_ERROR(
            right_[p].Load(pairs_[p].right, col, cols, context_));
      }
      for (std::int64_t row = 0; row < size_; row += kTileRows) {
        MOESCOPE_RETURN_IF_ERROR(
            FillTile(row, std::min(kTileRows, size_ - row), col, cols, out));
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status FillTile(std::int64_t row, std::int64_t rows, std::int64_t col,
                        std::int64_t cols, SimilarityMatrix& out) {
    at::Tensor tile = tile_.narrow(0, 0, rows).narrow(1, 0, cols);
    for (std::size_t p = 0; p < pairs_.size(); ++p) {
      MOESCOPE_RETURN_IF_ERROR(
          left_[p].Load(pairs_[p].left, row, rows, context_));
      if (left_[p].is_packed() && right_[p].is_packed()) {
        MOESCOPE_RETURN_IF_ERROR(MultiplyPacked(p, rows, cols));
        continue;
      }
      MOESCOPE_ASSIGN_OR_RETURN(const at::Tensor left,
                                left_[p].Normalised(context_));
      MOESCOPE_ASSIGN_OR_RETURN(const at::Tensor right,
                                right_[p].Normalised(context_));
      for (std::int64_t j = 0; j < cols; j += kProductCols) {
        MOESCOPE_RETURN_IF_ERROR(context_.Check());
        const std::int64_t count = std::min(kProductCols, cols - j);
        tile.narrow(1, j, count)
            .addmm_(left, right.narrow(0, j, count).t(), p == 0 ? 0 : 1, 1);
      }
    }
    return out.Set(row, col,
                   {tile.data_ptr<float>(), ElementType::kFloat32, rows, cols,
                    tile.stride(0)});
  }

  // The cosines of pair p go to tile_, or are added there.
  absl::Status MultiplyPacked(std::size_t p, std::int64_t rows,
                              std::int64_t cols) {
    float* const tile = tile_.data_ptr<float>();
    for (std::int64_t j = 0; j < cols; j += kPartCols) {
      const std::int64_t part_cols = std::min(kPartCols, cols - j);
      for (std::int64_t i = 0; i < rows; i += kPartRows) {
        MOESCOPE_RETURN_IF_ERROR(context_.Check());
        const std::int64_t part_rows = std::min(kPartRows, rows - i);
        internal::MultiplyPanels(
            left_[p].panels(), {i, part_rows}, right_[p].panels(),
            {j, part_cols}, /*upper=*/false, products_, kPartCols);
        for (std::int64_t r = 0; r < part_rows; ++r) {
          internal::ScaleProducts(
              products_ + r * kPartCols, part_cols,
              left_[p].inverse_norms()[static_cast<std::size_t>(i + r)],
              right_[p].inverse_norms().data() + j, p > 0,
              tile + (i + r) * tile_.stride(0) + j);
        }
      }
    }
    return absl::OkStatus();
  }

  const absl::Span<const NeuronPair> pairs_;
  const RunContext& context_;
  const std::int64_t size_;
  std::vector<Side> left_;
  std::vector<Side> right_;
  at::Tensor tile_;
  double products_[kPartRows * kPartCols];
};

}  // namespace

std::string NeuronProductType() {
  return internal::UseBFloat16Panels() ? "bf16" : "fp32";
}

absl::Status FillCosines(absl::Span<const NeuronPair> pairs,
                         const RunContext& context, SimilarityMatrix& out) {
  MOESCOPE_RETURN_IF_ERROR(internal::CheckPairs(pairs));
  out.Resize(pairs[0].left.rows);
  if (out.size() == 0) {
    return absl::OkStatus();
  }
  try {
    const c10::NoGradGuard no_grad;
    return std::make_unique<TileFiller>(pairs, context)->Fill(out);
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("neuron cosines: ", error.what()));
  }
}

}  // namespace moescope::numerics
