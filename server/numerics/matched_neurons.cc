// What a matching makes of two matrices: one reading of both, in fp64.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/numerics/dot_kernels_internal.h"
#include "server/numerics/neuron_cosine_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/neuron_cosine.h"
#include "moescope/numerics/widen_rows.h"

namespace moescope::numerics {
namespace {

// Rows read at once: neurons, or where these are columns, coordinates of all.
constexpr std::int64_t kNeuronsAtOnce = 16;
constexpr std::int64_t kCoordinatesAtOnce = 16;
// Fixed, whatever the number of threads: sums are then the same.
constexpr std::int64_t kCoordinateParts = 8;

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
  return left_square != 0 && right_square != 0
             ? product / (std::sqrt(left_square) * std::sqrt(right_square))
             : 0.0;
}

// Squares of both sides' neurons, products of the matched ones, and of those
// that stand in the same place.
struct Products {
  explicit Products(std::int64_t size)
      : left(static_cast<std::size_t>(size), 0.0),
        right(left),
        matched(left),
        unmatched(left) {}

  std::vector<double> left;       // [F]
  std::vector<double> right;      // [F]
  std::vector<double> matched;    // [F] left i, right permutation[i]
  std::vector<double> unmatched;  // [F]
};

// Neurons that lie in one piece.
absl::Status MultiplyRows(const NeuronPair& pair,
                          absl::Span<const std::int64_t> permutation,
                          ThreadPool& pool, const RunContext& context,
                          Products& products) {
  const std::int64_t depth = pair.left.cols;
  const auto multiply = [&](std::int64_t group) -> absl::Status {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const std::int64_t first = group * kNeuronsAtOnce;
    const std::int64_t count = std::min(kNeuronsAtOnce, pair.left.rows - first);
    std::vector<float> left(static_cast<std::size_t>(count * depth));
    std::vector<float> right(left.size());
    std::vector<float> match(static_cast<std::size_t>(depth));
    WidenRows(pair.left, first, count, left.data());
    WidenRows(pair.right, first, count, right.data());
    for (std::int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(first + i);
      const float* const x = left.data() + i * depth;
      const float* const y = right.data() + i * depth;
      WidenRows(pair.right, permutation[at], 1, match.data());
      const internal::MatchedProducts found =
          internal::DotMatched(x, y, match.data(), depth);
      products.left[at] = found.left;
      products.right[at] = found.right;
      products.unmatched[at] = found.unmatched;
      products.matched[at] = found.matched;
    }
    return absl::OkStatus();
  };
  return pool.ParallelFor(
      (pair.left.rows + kNeuronsAtOnce - 1) / kNeuronsAtOnce, multiply);
}

// Coordinates [begin, end) of neurons that are columns of what lies in one
// piece: of all neurons at once, some coordinates at a time.
absl::Status AddCoordinates(const NeuronPair& pair,
                            absl::Span<const std::int64_t> permutation,
                            std::int64_t begin, std::int64_t end,
                            const RunContext& context, Products& products) {
  const MatrixView left_columns = Transposed(pair.left);
  const MatrixView right_columns = Transposed(pair.right);
  const std::int64_t size = pair.left.rows;
  std::vector<float> left(static_cast<std::size_t>(kCoordinatesAtOnce * size));
  std::vector<float> right(left.size());
  std::vector<float> match(left.size());
  for (std::int64_t first = begin; first < end; first += kCoordinatesAtOnce) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const std::int64_t rows = std::min(kCoordinatesAtOnce, end - first);
    WidenRows(left_columns, first, rows, left.data());
    WidenRows(right_columns, first, rows, right.data());
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* const from = right.data() + r * size;
      float* const to = match.data() + r * size;
      for (std::int64_t i = 0; i < size; ++i) {
        to[i] = from[permutation[static_cast<std::size_t>(i)]];
      }
    }
    internal::AddMatchedColumns(
        left.data(), right.data(), match.data(), rows, size, size,
        {products.left.data(), products.right.data(), products.unmatched.data(),
         products.matched.data()});
  }
  return absl::OkStatus();
}

void Add(const std::vector<double>& values, std::vector<double>& sums) {
  for (std::size_t i = 0; i < sums.size(); ++i) {
    sums[i] += values[i];
  }
}

// Parts of the coordinates are summed apart, then in order.
absl::Status MultiplyColumns(const NeuronPair& pair,
                             absl::Span<const std::int64_t> permutation,
                             ThreadPool& pool, const RunContext& context,
                             Products& products) {
  const std::int64_t depth = pair.left.cols;
  std::vector<Products> parts(kCoordinateParts, Products(pair.left.rows));
  MOESCOPE_RETURN_IF_ERROR(
      pool.ParallelFor(kCoordinateParts, [&](std::int64_t part) {
        return AddCoordinates(pair, permutation,
                              part * depth / kCoordinateParts,
                              (part + 1) * depth / kCoordinateParts, context,
                              parts[static_cast<std::size_t>(part)]);
      }));
  for (const Products& part : parts) {
    Add(part.left, products.left);
    Add(part.right, products.right);
    Add(part.matched, products.matched);
    Add(part.unmatched, products.unmatched);
  }
  return absl::OkStatus();
}

double Sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
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

absl::StatusOr<MatchedNeurons> CompareMatched(
    const NeuronPair& pair, absl::Span<const std::int64_t> permutation,
    ThreadPool& pool, const RunContext& context) {
  MOESCOPE_RETURN_IF_ERROR(
      internal::CheckPairs(absl::MakeConstSpan(&pair, 1)));
  const std::int64_t size = pair.left.rows;
  MOESCOPE_RETURN_IF_ERROR(CheckPermutation(permutation, size));
  Products products(size);
  MOESCOPE_RETURN_IF_ERROR(
      pair.left.col_stride <= pair.left.row_stride
          ? MultiplyRows(pair, permutation, pool, context, products)
          : MultiplyColumns(pair, permutation, pool, context, products));
  MatchedNeurons matched;
  matched.cosines.reserve(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < products.matched.size(); ++i) {
    const auto j = static_cast<std::size_t>(permutation[i]);
    matched.cosines.push_back(Quotient(products.matched[i], products.left[i],
                                       products.right[j]));
  }
  const double left = Sum(products.left);
  const double right = Sum(products.right);
  matched.flattened_before = Quotient(Sum(products.unmatched), left, right);
  matched.flattened_after = Quotient(Sum(products.matched), left, right);
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
