#include "moescope/base/blas_core.h"

#include <dlfcn.h>

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace moescope {
namespace {

// The address of `symbol` in any loaded library as a function of type F.
template <typename F>
F LoadedFunction(const char* symbol) {
  void* const address = dlsym(RTLD_DEFAULT, symbol);
  F function = nullptr;
  static_assert(sizeof function == sizeof address);
  // POSIX promises that the bits agree; C++ has no cast for it.
  std::memcpy(&function, &address, sizeof function);
  return function;
}

}  // namespace

CpuFeatures DetectCpuFeatures() {
  CpuFeatures features;
#if defined(__x86_64__)
  unsigned eax = 0;
  unsigned words[3] = {0, 0, 0};  // ebx, edx, ecx: the order of the letters
  if (__get_cpuid(0, &eax, &words[0], &words[2], &words[1]) != 0) {
    char name[sizeof words];
    std::memcpy(name, words, sizeof words);
    features.vendor.assign(name, sizeof name);
  }
  // These look at XCR0 too: what the system does not save is not usable.
  features.sse42 = __builtin_cpu_supports("sse4.2") != 0;
  features.avx = __builtin_cpu_supports("avx") != 0;
  features.avx2_fma = __builtin_cpu_supports("avx2") != 0 &&
                      __builtin_cpu_supports("fma") != 0;
  features.avx512 = __builtin_cpu_supports("avx512f") != 0 &&
                    __builtin_cpu_supports("avx512bw") != 0 &&
                    __builtin_cpu_supports("avx512dq") != 0 &&
                    __builtin_cpu_supports("avx512vl") != 0;
  features.avx512_bf16 =
      features.avx512 && __builtin_cpu_supports("avx512bf16") != 0;
#endif
  return features;
}

std::string FittingOpenBlasCore(const CpuFeatures& features) {
#if defined(__x86_64__)
  // By feature, not by model: OpenBLAS 0.3.21 knows models, and takes its
  // slowest kernels (Prescott) on Intel processors younger than itself and the
  // AVX2 ones (Haswell) on AMD's Zen 5. Measured there, one thread, fp32
  // 1024³: Cooperlake 255, SkylakeX 255, Zen 134, Haswell 135, Prescott 51
  // GFLOP/s. The two AVX-512 cores share their fp32 and fp64 kernels, but
  // 0.3.21 does not take "Cooperlake" as a name ("Core not found") and then
  // chooses by model after all: so SkylakeX, also where there is bf16.
  if (features.avx512) {
    return "SkylakeX";
  }
  if (features.avx2_fma) {
    return features.vendor == "AuthenticAMD" ? "Zen" : "Haswell";
  }
  if (features.avx) {
    return "Sandybridge";
  }
  return features.sse42 ? "Nehalem" : "Prescott";
#else
  static_cast<void>(features);
  return "";
#endif
}

LoadedBlas DescribeLoadedBlas() {
  LoadedBlas blas;
  using TextFunction = char* (*)();
  const auto core = LoadedFunction<TextFunction>("openblas_get_corename");
  if (core != nullptr) {
    blas.core = core();
    Dl_info info;
    if (dladdr(dlsym(RTLD_DEFAULT, "openblas_get_corename"), &info) != 0 &&
        info.dli_fname != nullptr) {
      const char* const slash = std::strrchr(info.dli_fname, '/');
      blas.library = slash == nullptr ? info.dli_fname : slash + 1;
    }
  }
  const auto config = LoadedFunction<TextFunction>("openblas_get_config");
  if (config != nullptr) {
    blas.config = config();
  }
  return blas;
}

bool SetLoadedBlasThreads(int num_threads) {
  const auto set =
      LoadedFunction<void (*)(int)>("openblas_set_num_threads");
  if (set == nullptr) {
    return false;
  }
  set(num_threads);
  return true;
}

}  // namespace moescope
