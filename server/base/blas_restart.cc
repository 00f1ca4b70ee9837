#include "moescope/base/blas_restart.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "moescope/base/blas_core.h"
#include "moescope/base/log.h"

namespace moescope {
namespace {

constexpr char kGuard[] = "MOESCOPE_BLAS_RESTARTED";

// Products run on one thread each; parallelism is across them.
constexpr const char* kThreadVariables[] = {"OMP_NUM_THREADS",
                                            "OPENBLAS_NUM_THREADS"};

// Whether the environment had to be changed.
bool Require(const char* name, const std::string& value, bool overwrite) {
  const char* const now = std::getenv(name);
  if (now != nullptr && (!overwrite || value == now)) {
    return false;
  }
  ::setenv(name, value.c_str(), 1);
  return true;
}

}  // namespace

void RestartWithFittingBlas(char** argv) {
  if (std::getenv(kGuard) != nullptr) {
    // Programs that this one starts choose for themselves.
    ::unsetenv(kGuard);
    return;
  }
  bool changed = false;
  const std::string core = FittingOpenBlasCore(DetectCpuFeatures());
  if (!core.empty()) {
    changed = Require("OPENBLAS_CORETYPE", core, /*overwrite=*/false);
  }
  for (const char* const name : kThreadVariables) {
    changed = Require(name, "1", /*overwrite=*/true) || changed;
  }
  if (!changed) {
    return;
  }
  ::setenv(kGuard, "1", 1);
  ::execv("/proc/self/exe", argv);
  Log(LogLevel::kWarning, "blas_restart_failed",
      {{"error", std::strerror(errno)}});
  ::unsetenv(kGuard);
}

}  // namespace moescope
