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

/// Adds Σ_r x_rj y_rj to sums[j], j of [0, count); both have `rows` rows,
/// `stride` numbers apart.
void AddColumnProducts(const float* x, const float* y, std::int64_t rows,
                       std::int64_t stride, std::int64_t count, double* sums);

}  // namespace moescope::numerics::internal
