#pragma once

#include "moescope/app/config.h"

namespace moescope::internal {

/// Blocks the signals that end the server, for this thread and those it
/// starts. Threads: call before any is started.
void BlockEndingSignals();

/// Runs the server until SIGTERM or SIGINT; returns the exit status: 0 after a
/// drain, 1 when it can't start. A second signal ends the process with 130.
int RunServer(const ServerConfig& config);

}  // namespace moescope::internal
