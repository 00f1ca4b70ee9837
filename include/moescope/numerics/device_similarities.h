#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/numerics/assignment.h"
#include "moescope/numerics/neuron_cosine.h"

namespace moescope::numerics {

/// A SimilarityMatrix that lies on a device of torch's, such as a GPU, where
/// FillCosines and SolveAssignment then work on it. Used again for the next
/// one.
/// Memory: DeviceMatchingBytes of the largest size so far.
/// Threads: one at a time. Several may share a device; each has its own memory
/// there.
class DeviceSimilarities {
 public:
  /// `device` as torch names it: "cuda:0"; "cpu" works, too.
  explicit DeviceSimilarities(std::string device);
  ~DeviceSimilarities();
  DeviceSimilarities(DeviceSimilarities&&) noexcept;
  DeviceSimilarities& operator=(DeviceSimilarities&&) noexcept;

  const std::string& device() const { return device_; }
  std::int64_t size() const;

  struct Memory;
  Memory& memory() { return *memory_; }

 private:
  std::string device_;
  std::unique_ptr<Memory> memory_;
};

/// Bytes on the device for the matching of `size` neurons of length `depth`:
/// 4 F² for the matrix, 4 F D for one side of a pair in fp32, 8 D for each of up
/// to 2048 rows that go there together, 16 for each of up to 2^22 entries (at
/// least a row) that an operation takes up at once, 64 F for the rest.
std::int64_t DeviceMatchingBytes(std::int64_t size, std::int64_t depth);

/// FillCosines with the neurons copied to the device once, as they are stored
/// (quantised ones in fp32), and everything after that done there.
/// Precision: about 1e-7, as on the host, but other roundings: neurons of length
/// 1 are multiplied in fp32 (never TF32), with norms in fp64.
/// Cost: 2 F² D flops a pair on the device.
/// Errors: as FillCosines, and RESOURCE_EXHAUSTED reason OUT_OF_DEVICE_MEMORY.
/// A cancellation is seen after at most one block of 2048 rows.
/// Threads: copies on the host are shared out through `pool`.
absl::Status FillCosines(absl::Span<const NeuronPair> pairs, ThreadPool& pool,
                         const RunContext& context, DeviceSimilarities& out);

/// SolveAssignment whose passes over all entries (core selection, pricing, dual
/// starts) run on the device and whose searches run on the calling thread.
/// Definition: of equal fixed-point similarities the objective is that of
/// SolveAssignment on any device, proven by the same certificate; which of
/// several optimal permutations is returned may depend on the device.
/// Memory: DeviceMatchingBytes; on the host 1100 F bytes, and 4 F² for a matrix
/// that the core does not solve, where the search goes over whole rows.
/// Errors: CANCELLED, DEADLINE_EXCEEDED, looked at before each block of a pass;
/// RESOURCE_EXHAUSTED reason OUT_OF_DEVICE_MEMORY; INTERNAL (library failure).
absl::StatusOr<Assignment> SolveAssignment(DeviceSimilarities& similarities,
                                           const RunContext& context);

}  // namespace moescope::numerics
