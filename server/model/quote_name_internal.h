#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace moescope::model::internal {

/// A name out of a file, quoted for a message: escaped, and cut after 120
/// bytes, since a hostile file may hold megabytes of it.
std::string QuoteName(absl::string_view name);

/// The last component of `path`; messages name files without their folders.
std::string FileName(absl::string_view path);

}  // namespace moescope::model::internal
