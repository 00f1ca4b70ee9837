#include <malloc.h>

#include <iostream>

#include "moescope/app/config.h"
#include "moescope/base/blas_restart.h"
#include "server/app/server_process_internal.h"

namespace {

// Weights and activations come and go in large pieces: these go back to the
// system at once, whatever the allocator has learnt from earlier ones.
void ReturnLargeBlocks() {
  constexpr int kMmapThreshold = 1 << 20;
  constexpr int kTrimThreshold = 8 << 20;
  mallopt(M_MMAP_THRESHOLD, kMmapThreshold);
  mallopt(M_TRIM_THRESHOLD, kTrimThreshold);
}

}  // namespace

int main(int argc, char** argv) {
  const moescope::CommandLine line =
      moescope::ParseCommandLine(argc, argv, std::cout, std::cerr);
  if (line.exit_status.has_value()) {
    return *line.exit_status;
  }
  moescope::RestartWithFittingBlas(argv);
  ReturnLargeBlocks();
  moescope::internal::BlockEndingSignals();
  return moescope::internal::RunServer(line.config);
}
