#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "client/cli/commands.h"
#include "client/cli/output.h"

namespace {

constexpr int kInterrupted = 130;

volatile std::sig_atomic_t g_interrupted = 0;

void OnSignal(int /*signal*/) {
  // The first cancels the work on the server; who asks twice does not wait.
  if (g_interrupted != 0) {
    _exit(kInterrupted);
  }
  g_interrupted = 1;
}

}  // namespace

int main(int argc, char** argv) {
  const auto outcome = moescope::client::ParseArguments(argc, argv);
  std::fputs(outcome.err.c_str(), stderr);
  if (!outcome.arguments.has_value()) {
    const absl::Status written =
        moescope::client::WriteStandardOutput(outcome.out);
    if (!written.ok()) {
      std::fputs(moescope::client::FailureText(written).c_str(), stderr);
    }
    return written.ok() ? outcome.exit_code
                        : moescope::client::ExitCode(written, false);
  }
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
  const absl::Status status = moescope::client::RunCommand(
      *outcome.arguments, [] { return g_interrupted != 0; });
  const bool interrupted = g_interrupted != 0;
  if (interrupted && !status.ok()) {
    std::fputs("interrupted\n", stderr);
  } else if (!status.ok()) {
    std::fputs(moescope::client::FailureText(status).c_str(), stderr);
  }
  return moescope::client::ExitCode(status, interrupted);
}
