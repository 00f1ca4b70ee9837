#include "moescope/numerics/neuron_cosine.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <exception>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/widen_rows.h"

namespace moescope::numerics {
namespace {

// Tiles follow from the shape alone. A product of one tile takes some tens of
// milliseconds: that is how soon a cancellation is seen.
constexpr std::int64_t kTileRows = 256;
constexpr std::int64_t kTileCols = 2048;
// Rows widened at once: columns that lie together in memory are read well.
constexpr std::int64_t kWidenRows = 64;

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

double Dot(const float* x, const float* y, std::int64_t count) {
  // Four sums, so that additions need not wait for each other.
  double sums[4] = {0, 0, 0, 0};
  std::int64_t c = 0;
  for (; c + 4 <= count; c += 4) {
    for (std::int64_t k = 0; k < 4; ++k) {
      sums[k] += static_cast<double>(x[c + k]) * static_cast<double>(y[c + k]);
    }
  }
  for (; c < count; ++c) {
    sums[0] += static_cast<double>(x[c]) * static_cast<double>(y[c]);
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// Rows first … of `view` at length 1, in fp32.
absl::Status NormaliseRows(const MatrixView& view, std::int64_t first,
                           std::int64_t rows, const RunContext& context,
                           float* out) {
  for (std::int64_t r = 0; r < rows; r += kWidenRows) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const std::int64_t count = std::min(kWidenRows, rows - r);
    float* const block = out + r * view.cols;
    WidenRows(view, first + r, count, block);
    for (std::int64_t i = 0; i < count; ++i) {
      float* const row = block + i * view.cols;
      const double square = Dot(row, row, view.cols);
      if (!std::isfinite(square)) {
        return InvalidField("pairs", absl::StrCat("neuron ", first + r + i,
                                                  " is not finite"));
      }
      const auto inverse =
          static_cast<float>(square > 0 ? 1 / std::sqrt(square) : 0.0);
      std::for_each(row, row + view.cols,
                    [inverse](float& value) { value *= inverse; });
    }
  }
  return absl::OkStatus();
}

// Memory for the normalised rows of a tile's sides.
class TileFiller {
 public:
  TileFiller(absl::Span<const NeuronPair> pairs, const RunContext& context)
      : pairs_(pairs), context_(context), size_(pairs[0].left.rows) {
    const std::int64_t rows = std::min(kTileRows, size_);
    const std::int64_t cols = std::min(kTileCols, size_);
    for (const NeuronPair& pair : pairs) {
      left_.push_back(at::empty({rows, pair.left.cols}, at::kFloat));
      right_.push_back(at::empty({cols, pair.left.cols}, at::kFloat));
    }
    tile_ = at::empty({rows, cols}, at::kFloat);
  }

  absl::Status Fill(SimilarityMatrix& out) {
    for (std::int64_t col = 0; col < size_; col += kTileCols) {
      const std::int64_t cols = std::min(kTileCols, size_ - col);
      for (std::size_t p = 0; p < pairs_.size(); ++p) {
        MOESCOPE_RETURN_IF_ERROR(NormaliseRows(pairs_[p].right, col, cols,
                                               context_,
                                               right_[p].data_ptr<float>()));
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
      MOESCOPE_RETURN_IF_ERROR(NormaliseRows(pairs_[p].left, row, rows,
                                             context_,
                                             left_[p].data_ptr<float>()));
      const at::Tensor left = left_[p].narrow(0, 0, rows);
      const at::Tensor right = right_[p].narrow(0, 0, cols).t();
      tile.addmm_(left, right, p == 0 ? 0 : 1, 1);
    }
    return out.Set(row, col,
                   {tile.data_ptr<float>(), ElementType::kFloat32, rows, cols,
                    tile.stride(0)});
  }

  const absl::Span<const NeuronPair> pairs_;
  const RunContext& context_;
  const std::int64_t size_;
  std::vector<at::Tensor> left_;
  std::vector<at::Tensor> right_;
  at::Tensor tile_;
};

absl::Status CheckPermutation(absl::Span<const std::int64_t> permutation,
                              std::int64_t size) {
  std::vector<char> taken(static_cast<std::size_t>(size));
  bool fits = static_cast<std::int64_t>(permutation.size()) == size;
  for (const std::int64_t j : permutation) {
    fits = fits && j >= 0 && j < size &&
           std::exchange(taken[static_cast<std::size_t>(j)], 1) == 0;
  }
  return fits ? absl::OkStatus()
              : InvalidField("permutation",
                             absl::StrCat("is none of 0 to ", size - 1));
}

double Quotient(double product, double left_square, double right_square) {
  return left_square > 0 && right_square > 0
             ? product / (std::sqrt(left_square) * std::sqrt(right_square))
             : 0.0;
}

// Inversions of `values`, which end up sorted.
std::int64_t CountInversions(std::vector<std::int64_t>& values) {
  std::vector<std::int64_t> merged(values.size());
  std::int64_t inversions = 0;
  for (std::size_t width = 1; width < values.size(); width *= 2) {
    for (std::size_t begin = 0; begin < values.size(); begin += 2 * width) {
      const std::size_t middle = std::min(begin + width, values.size());
      const std::size_t end = std::min(begin + 2 * width, values.size());
      std::size_t a = begin;
      std::size_t b = middle;
      for (std::size_t out = begin; out < end; ++out) {
        if (b == end || (a < middle && values[a] < values[b])) {
          merged[out] = values[a++];
        } else {
          inversions += static_cast<std::int64_t>(middle - a);
          merged[out] = values[b++];
        }
      }
    }
    values.swap(merged);
  }
  return inversions;
}

}  // namespace

absl::Status FillCosines(absl::Span<const NeuronPair> pairs,
                         const RunContext& context, SimilarityMatrix& out) {
  MOESCOPE_RETURN_IF_ERROR(CheckPairs(pairs));
  out.Resize(pairs[0].left.rows);
  if (out.size() == 0) {
    return absl::OkStatus();
  }
  try {
    const at::NoGradGuard no_grad;
    return TileFiller(pairs, context).Fill(out);
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("neuron cosines: ", error.what()));
  }
}

absl::StatusOr<MatchedNeurons> CompareMatched(
    const NeuronPair& pair, absl::Span<const std::int64_t> permutation,
    const RunContext& context) {
  MOESCOPE_RETURN_IF_ERROR(CheckPairs(absl::MakeConstSpan(&pair, 1)));
  const std::int64_t size = pair.left.rows;
  const std::int64_t depth = pair.left.cols;
  MOESCOPE_RETURN_IF_ERROR(CheckPermutation(permutation, size));
  std::vector<float> right(static_cast<std::size_t>(size * depth));
  std::vector<double> right_squares(static_cast<std::size_t>(size));
  double right_square = 0;
  for (std::int64_t r = 0; r < size; r += kWidenRows) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const std::int64_t count = std::min(kWidenRows, size - r);
    WidenRows(pair.right, r, count, right.data() + r * depth);
    for (std::int64_t i = r; i < r + count; ++i) {
      const float* const row = right.data() + i * depth;
      right_squares[static_cast<std::size_t>(i)] = Dot(row, row, depth);
      right_square += right_squares[static_cast<std::size_t>(i)];
    }
  }
  std::vector<float> left(static_cast<std::size_t>(kWidenRows * depth));
  MatchedNeurons matched;
  matched.cosines.reserve(static_cast<std::size_t>(size));
  double left_square = 0;
  double before = 0;
  double after = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    if (i % kWidenRows == 0) {
      MOESCOPE_RETURN_IF_ERROR(context.Check());
      WidenRows(pair.left, i, std::min(kWidenRows, size - i), left.data());
    }
    const float* const row = left.data() + i % kWidenRows * depth;
    const std::int64_t j = permutation[static_cast<std::size_t>(i)];
    const double square = Dot(row, row, depth);
    const double product = Dot(row, right.data() + j * depth, depth);
    matched.cosines.push_back(Quotient(
        product, square, right_squares[static_cast<std::size_t>(j)]));
    left_square += square;
    after += product;
    before += Dot(row, right.data() + i * depth, depth);
  }
  matched.flattened_before = Quotient(before, left_square, right_square);
  matched.flattened_after = Quotient(after, left_square, right_square);
  return matched;
}

double KendallTauToIdentity(absl::Span<const std::int64_t> permutation) {
  if (permutation.size() < 2) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  std::vector<std::int64_t> values(permutation.begin(), permutation.end());
  const auto n = static_cast<double>(values.size());
  return 1 - 4 * static_cast<double>(CountInversions(values)) / (n * (n - 1));
}

double KendallTauNullError(std::int64_t size) {
  if (size < 2) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const auto n = static_cast<double>(size);
  return std::sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)));
}

}  // namespace moescope::numerics
