#include "moescope/model/compute_info.h"

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "moescope/numerics/gemm_probe.h"
#include "moescope/numerics/instruction_set.h"

namespace moescope::model {
namespace {

// "2024.2" of "Intel(R) oneAPI Math Kernel Library Version 2024.2-Product …".
std::string MklVersion(absl::string_view text) {
  constexpr absl::string_view kMark = "Version ";
  const std::size_t mark = text.find(kMark);
  if (mark == absl::string_view::npos) {
    return "unknown";
  }
  const absl::string_view version = text.substr(mark + kMark.size());
  return std::string(version.substr(0, version.find_first_of("- \n")));
}

}  // namespace

ComputeInfo GetComputeInfo() {
  return {numerics::KernelInstructionSet(), TORCH_VERSION};
}

LoadedBlas DescribeBlas() {
  LoadedBlas blas = DescribeLoadedBlas();
  if (blas.library == "unknown" && at::hasMKL()) {
    blas.config = at::get_mkl_version();
    blas.library = absl::StrCat("MKL-", MklVersion(blas.config));
    blas.core = "automatic";
  }
  return blas;
}

absl::StatusOr<double> MeasureGemmGflops() {
  return numerics::MeasureGemmGflops();
}

}  // namespace moescope::model
