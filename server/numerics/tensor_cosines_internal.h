#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/neuron_cosine.h"

namespace moescope::numerics::internal {

/// Neurons that go to a device, and rows of the matrix that are multiplied, at
/// once: some ten milliseconds of products of the largest experts on a small
/// GPU, which is how soon a cancellation is seen.
inline constexpr std::int64_t kTensorBlockRows = 2048;

/// FillCosines on the device of `costs` [F, F], int32 and contiguous, whose
/// memory also takes the sums while they are in fp32.
/// Definition, errors: as FillCosines; pairs that CheckPairs accepts.
/// Precision: norms in fp64, products of neurons of length 1 in fp32 (never
/// TF32). Cost: every neuron goes to the device once, as it is stored, or in
/// fp32 where it is quantised.
/// Memory: on the device, beside `costs`, the right side of one pair and blocks
/// of both in fp32, and a block as it is stored: 4 F D + 8 block_rows D bytes;
/// on the host a block as it is stored.
/// Threads: copies on the host are shared out through `pool`.
absl::Status FillTensorCosines(absl::Span<const NeuronPair> pairs,
                               std::int64_t block_rows, ThreadPool& pool,
                               const RunContext& context,
                               const at::Tensor& costs);

/// Puts fp32 similarities, which lie where `costs` [F, F] does, into fixed
/// point: SimilarityMatrix::Set for the whole matrix.
absl::Status QuantiseInPlace(const at::Tensor& costs,
                             const RunContext& context);

}  // namespace moescope::numerics::internal
