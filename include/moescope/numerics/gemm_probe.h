#pragma once

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace moescope::numerics {

/// Rate of fp32 matrix products of 1024 x 1024 through torch on the calling
/// thread: the best of as many as fit into `duration`, at least one after a
/// first that is not counted.
/// Units: GFLOP/s. A rate far below what the processor does says that the BLAS
/// library runs with the wrong kernels (moescope/base/blas_core.h).
/// Errors: INTERNAL (library failure).
/// Threads: one product uses as many threads as torch and its BLAS are set to;
/// with both at 1 this is the rate of one core.
absl::StatusOr<double> MeasureGemmGflops(
    absl::Duration duration = absl::Milliseconds(200));

}  // namespace moescope::numerics
