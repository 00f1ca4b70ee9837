#pragma once

#include "absl/status/statusor.h"

namespace moescope::numerics {

/// How fast the calling thread multiplies neurons, in GFLOP/s.
struct ProductRates {
  double fp32_gflops = 0;  ///< Through the BLAS library.
  double bf16_gflops = 0;  ///< By our panels; 0 where the processor has no such
                           ///< products.
};

/// The better of some products of 576 by 576 neurons of 2048 numbers each, of both
/// kinds in turn; about 0.1 s. Errors: INTERNAL (library failure).
absl::StatusOr<ProductRates> MeasureProductRates();

/// Whether products of bf16 neurons are from now on the processor's own, where it
/// has them: what NeuronProductType says. Before the first call they are on AMD's
/// processors alone, which do them at twice the rate of fp32; Intel's did not.
/// Threads: call while no kernel runs; results change in their last bits.
void ChooseBFloat16Products(bool wanted);

}  // namespace moescope::numerics
