#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope {

/// The whole content of the file at `path`. Errors: NOT_FOUND,
/// PERMISSION_DENIED, RESOURCE_EXHAUSTED above `max_bytes`, INTERNAL.
absl::StatusOr<std::string> ReadFile(const std::string& path,
                                     std::int64_t max_bytes);

/// Puts `bytes` at `path` so that after a crash either the old or the new
/// content is there, in the old one's mode: temporary file beside it, fsync,
/// rename, fsync of the folder. Errors: as errno says (NOT_FOUND,
/// PERMISSION_DENIED, RESOURCE_EXHAUSTED for a full disk, INTERNAL).
absl::Status WriteFileAtomically(const std::string& path,
                                 absl::string_view bytes);

/// fsync of a folder: makes renames and removals in it durable.
absl::Status SyncDirectory(const std::string& path);

/// Creates `path` and its parents; fine when it is there already.
absl::Status MakeDirectories(const std::string& path);

/// The status that errno value `error` stands for; message "<what>: <text>".
absl::Status ErrnoStatus(int error, absl::string_view what);

}  // namespace moescope
