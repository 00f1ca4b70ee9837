#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "moescope/model/checkpoint.h"
#include "moescope/numerics/matrix_view.h"

namespace moescope::benchmarks {

/// Equal readings of static_suite: one per layer and projection of one shape.
struct SuiteReading {
  std::int64_t count = 0;
  std::int64_t experts = 0;  ///< E
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  numerics::ElementType type = numerics::ElementType::kBFloat16;
  bool down = false;  ///< Norms and means are those of columns and rows.
};

/// What static_suite reads of `checkpoint`: the routed experts of all MoE layers.
absl::StatusOr<std::vector<SuiteReading>> SuiteWork(
    const model::Checkpoint& checkpoint);

/// Seconds that the kernels of `work` take on `threads` processors where the data
/// stay in the second-level cache: the arithmetic floor. Measured on one thread on
/// small matrices of as many participants, and taken as many times as there are
/// weights.
absl::StatusOr<double> FloorSeconds(const std::vector<SuiteReading>& work,
                                    int threads);

/// A line on the multiply-adds of `work` at the rates at which this processor does
/// nothing else (registers only, one thread times `threads`); that they cannot be
/// measured where it lacks AVX-512 with bf16 products, or the weights are not bf16.
std::string DescribePeaks(const std::vector<SuiteReading>& work, int threads);

}  // namespace moescope::benchmarks
