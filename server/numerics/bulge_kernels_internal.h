#pragma once

#include "server/numerics/band_matrix_internal.h"

// Kernels that turn a band matrix into a tridiagonal one, one core each,
// dispatched at run time.
namespace moescope::numerics::internal {

/// I − tau v vᵀ with v[0] = 1, or the identity with tau = 0.
struct Reflector {
  alignas(64) double v[kBand];
  double tau = 0;
};

/// The reflector that turns x, kBand numbers, into a multiple of the first unit
/// vector, which is written to x. A tail whose squares would vanish counts as
/// zero: entries are of the order of 1 at most.
void MakeReflector(double* x, Reflector& reflector);

/// Applies `reflector` from both sides to the kBand lines from `diagonal` on, an
/// entry (c, c) of a BandMatrix; this fills the block below these. There
/// `reflector` becomes the one that clears the block's first column, and is
/// applied to it from the left.
void ChaseBulge(double* diagonal, Reflector& reflector);

}  // namespace moescope::numerics::internal
