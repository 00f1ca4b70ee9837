#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace moescope::model {

/// What computes in this process, for people who ask the server.
struct ComputeInfo {
  std::string instruction_set;  ///< Of our kernels.
  std::string torch_version;
};
ComputeInfo GetComputeInfo();

/// Rate of fp32 matrix products on the calling thread, in GFLOP/s; takes about
/// 0.2 s. Errors: INTERNAL (library failure).
absl::StatusOr<double> MeasureGemmGflops();

}  // namespace moescope::model
