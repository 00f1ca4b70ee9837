#include "moescope/model/compute_info.h"

#include <torch/version.h>

#include "moescope/numerics/gemm_probe.h"
#include "moescope/numerics/instruction_set.h"

namespace moescope::model {

ComputeInfo GetComputeInfo() {
  return {numerics::KernelInstructionSet(), TORCH_VERSION};
}

absl::StatusOr<double> MeasureGemmGflops() {
  return numerics::MeasureGemmGflops();
}

}  // namespace moescope::model
