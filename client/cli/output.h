#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace moescope::client {

/// That -o may name `path`, before anything is computed for it: a file that is
/// there or can be made, or a FIFO or character device. Links are followed.
/// Errors: INVALID_ARGUMENT naming -o.
absl::Status CheckOutputFile(const std::string& path);

/// Puts `bytes` at `path`. A regular file, the one that a link leads to, is
/// replaced as a whole and keeps its mode; a FIFO or character device is
/// written to as it stands. Errors: as errno says, naming -o; INVALID_ARGUMENT
/// as CheckOutputFile.
absl::Status WriteOutputFile(const std::string& path, absl::string_view bytes);

/// Writes `text` to standard output and flushes it. Errors: as errno says,
/// naming standard output.
absl::Status WriteStandardOutput(absl::string_view text);

/// Whether `status` comes from writing on this machine, and so neither from the
/// server nor from the command line.
bool IsOutputError(const absl::Status& status);

}  // namespace moescope::client
