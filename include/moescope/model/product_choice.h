#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "moescope/numerics/product_rates.h"

namespace moescope::model {

/// How neurons of bf16 weights are multiplied, and why.
struct ProductChoice {
  std::string processor;  ///< Model name, instruction set.
  std::string libraries;  ///< BLAS with its kernels, torch.
  numerics::ProductRates rates;

  bool bf16() const { return rates.bf16_gflops > rates.fp32_gflops; }
};

/// The choice that `<data_dir>/processor.json` keeps, or, where there is none, for
/// another processor or other libraries, or none that can be read (which is
/// logged), a new one from `measure`, kept there. Results are keyed by what was
/// chosen, so it stays as long as processor and libraries do.
/// Errors: those of `measure`; the file system's, naming field data_dir.
/// Threads: safe for folders of one process each.
absl::StatusOr<ProductChoice> LoadOrMeasureProductChoice(
    const std::string& data_dir,
    const std::function<absl::StatusOr<numerics::ProductRates>()>& measure);

/// Makes numerics multiply as the choice kept in `data_dir` says, measured with
/// one thread where there is none: before NumericsClass is asked for.
/// Errors: as above.
absl::Status ApplyProductChoice(const std::string& data_dir);

}  // namespace moescope::model
