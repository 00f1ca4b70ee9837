#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace moescope::numerics {

/// The instruction set that the kernels of this layer run with: "scalar",
/// "avx2", "avx512", "avx512_bf16" (bf16 products by the processor's own
/// instruction), or Highway's name in lower case on other processors. Part of
/// the numerics class: results are the same bit for bit only within one.
/// Chosen once from the processor. Threads: safe.
std::string KernelInstructionSet();

/// What the bits of this layer's results depend on, as part of the numerics
/// class: "avx512_bf16/1", the instruction set and the version of the kernels,
/// which is raised whenever a change of them can change a last bit.
std::string KernelClass();

/// Every set that this program holds and this processor runs, best first.
std::vector<std::string> AvailableInstructionSets();

/// Makes all kernels run with `name`; an empty name goes back to the best one.
/// For tests. Errors: INVALID_ARGUMENT for a set that is not available.
/// Threads: call while no kernel runs.
absl::Status ForceInstructionSetForTest(absl::string_view name);

}  // namespace moescope::numerics
