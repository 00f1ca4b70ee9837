#pragma once

#include <functional>

#include "absl/status/status.h"
#include "client/cli/arguments.h"

namespace moescope::client {

/// Runs a command: its answer on standard output or in the file that was asked
/// for, progress on standard error. `interrupted` is asked while it waits.
/// Errors: those of Client, of reading and writing files, and of a job that
/// ended without success.
absl::Status RunCommand(const Arguments& arguments,
                        std::function<bool()> interrupted);

/// The exit status for `status`: 0, 1 (the server refused or failed), 2 (a
/// parameter of `--set` that the analysis does not have), 130 when
/// `interrupted`.
int ExitCode(const absl::Status& status, bool interrupted);

/// INVALID_ARGUMENT that is wrong usage: found before the server was asked.
absl::Status UsageError(const absl::Status& status);

}  // namespace moescope::client
