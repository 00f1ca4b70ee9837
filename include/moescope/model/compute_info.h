#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "moescope/base/blas_core.h"

namespace moescope::model {

/// What computes in this process, for people who ask the server.
struct ComputeInfo {
  std::string instruction_set;  ///< Of our kernels.
  std::string torch_version;
};
ComputeInfo GetComputeInfo();

/// The BLAS library of torch's matrix products on the CPU. Where it is the MKL
/// inside torch's own build, which tells no core, `core` is "automatic": MKL
/// chooses its kernels by itself, and nothing is there to be set.
LoadedBlas DescribeBlas();

/// Memory of one GPU in bytes; the four add up to all that it has.
struct DeviceMemory {
  std::int64_t allocated_bytes = 0;  ///< In tensors of this process.
  std::int64_t reserved_bytes = 0;   ///< Kept by its allocator for others.
  std::int64_t free_bytes = 0;
  std::int64_t other_bytes = 0;  ///< Contexts, libraries, other processes.
};
/// nullopt for the CPU, for a GPU that nothing has been put on yet, and with a
/// libtorch before 2.11, which can't be asked.
std::optional<DeviceMemory> MeasureDeviceMemory(const std::string& device);

/// All memory of a device: the GPU's own; for the CPU what this process may use.
/// nullopt where it can't be told: no such GPU, or a libtorch before 2.11. Sets
/// the GPU up.
std::optional<std::int64_t> TotalMemoryBytes(const std::string& device);

/// Rate of fp32 matrix products on the calling thread, in GFLOP/s; takes about
/// 0.2 s. Errors: INTERNAL (library failure).
absl::StatusOr<double> MeasureGemmGflops();

}  // namespace moescope::model
