#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "client/cli/arguments.h"

namespace moescope::client {

/// Runs a command: its answer on standard output or in the file that was asked
/// for, progress on standard error. `interrupted` is asked while it waits.
/// Errors: those of Client, of reading and writing files, and of a job that
/// ended without success.
absl::Status RunCommand(const Arguments& arguments,
                        std::function<bool()> interrupted);

/// The exit status for `status`: 0, 1 (the server refused or failed), 2 (wrong
/// usage, see UsageError), 130 when `interrupted`.
int ExitCode(const absl::Status& status, bool interrupted);

/// What stands on stderr for a failed command: wrong usage in one line, all else
/// as ErrorText has it.
std::string FailureText(const absl::Status& status);

/// `status` as wrong usage, found before the server was asked.
absl::Status UsageError(const absl::Status& status);

}  // namespace moescope::client
