// The tests' main: starts itself again with the BLAS kernels that fit the
// processor, as the server does, or with those of MOESCOPE_TEST_BLAS_CORE.
#include <gmock/gmock.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "moescope/base/blas_core.h"

int main(int argc, char** argv) {
  const char* const wanted = std::getenv("MOESCOPE_TEST_BLAS_CORE");
  const std::string core =
      wanted != nullptr
          ? wanted
          : moescope::FittingOpenBlasCore(moescope::DetectCpuFeatures());
  const char* const current = std::getenv("OPENBLAS_CORETYPE");
  if (!core.empty() && (current == nullptr || core != current)) {
    setenv("OPENBLAS_CORETYPE", core.c_str(), /*overwrite=*/1);
    execv("/proc/self/exe", argv);
  }
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
