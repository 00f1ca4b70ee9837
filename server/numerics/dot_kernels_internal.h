#pragma once

#include <cstdint>

// Dot products in fp64, one core each, dispatched at run time.
namespace moescope::numerics::internal {

/// All products of `size` rows of `count` fp64 numbers, one after the other, to
/// gram [size, size]; products and sums in fp64.
void DotRows(const double* rows, std::int64_t size, std::int64_t count,
             double* gram);

/// Σ x_i y_i.
double DotFloats(const float* x, const float* y, std::int64_t count);

/// What a matching takes from a neuron x, the one y that stands in its place and
/// the one it is matched with.
struct MatchedProducts {
  double left = 0;       ///< x · x
  double right = 0;      ///< y · y
  double unmatched = 0;  ///< x · y
  double matched = 0;    ///< x · match
};

MatchedProducts DotMatched(const float* x, const float* y, const float* match,
                           std::int64_t count);

/// The same of many neurons. [count] each.
struct MatchedSums {
  double* left = nullptr;
  double* right = nullptr;
  double* unmatched = nullptr;
  double* matched = nullptr;
};

/// Adds the products of columns j of [0, count) to sums.…[j]; all three have
/// `rows` rows, `stride` numbers apart.
void AddMatchedColumns(const float* x, const float* y, const float* match,
                       std::int64_t rows, std::int64_t stride,
                       std::int64_t count, const MatchedSums& sums);

}  // namespace moescope::numerics::internal
