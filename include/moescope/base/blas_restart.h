#pragma once

namespace moescope {

/// OpenBLAS reads its environment when it is loaded, before main. So where the
/// environment does not say which kernels and how many threads, this sets it to
/// what fits the processor and starts the program again, once. An
/// OPENBLAS_CORETYPE that is set already is kept. Returns when there is nothing
/// to change, or when starting again fails (which is logged).
/// Threads: call before any is started.
void RestartWithFittingBlas(char** argv);

}  // namespace moescope
