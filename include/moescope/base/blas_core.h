#pragma once

#include <string>

namespace moescope {

/// What a choice of BLAS kernels depends on. All false on other processors
/// than x86-64.
struct CpuFeatures {
  /// "GenuineIntel", "AuthenticAMD"; empty where there is no such name.
  std::string vendor;
  bool sse42 = false;
  bool avx = false;
  bool avx2_fma = false;
  /// The F, BW, DQ and VL subsets, all of them.
  bool avx512 = false;
  bool avx512_bf16 = false;
};

/// What this processor has and the operating system lets us use.
CpuFeatures DetectCpuFeatures();

/// The value of OPENBLAS_CORETYPE that fits a processor: "SkylakeX",
/// "Zen", "Haswell", "Sandybridge", "Nehalem" or "Prescott"; empty
/// where OpenBLAS's own choice is to be kept (not x86-64). Needs no BLAS, so
/// that a program can ask before the library loads, set the variable and start
/// itself again.
std::string FittingOpenBlasCore(const CpuFeatures& features);

/// The BLAS library of this process. Every field is "unknown" when the library
/// is not OpenBLAS or does not tell.
struct LoadedBlas {
  /// File name of the library: "libopenblas.so.0".
  std::string library = "unknown";
  /// Kernels in use: "SkylakeX".
  std::string core = "unknown";
  /// "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH NO_AFFINITY Haswell …".
  std::string config = "unknown";
};

/// Asks the libraries that are loaded now; loads none. Threads: safe.
LoadedBlas DescribeLoadedBlas();

/// Sets the number of threads of the loaded OpenBLAS (torch's own setting does
/// not reach it); false when there is none. Results of library products are
/// reproducible with 1. Threads: call while no product runs.
bool SetLoadedBlasThreads(int num_threads);

}  // namespace moescope
