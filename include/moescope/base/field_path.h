#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace moescope {

/// `status` with the path `from` of a wrong field, and all below it
/// ("from.x", "from[0]"), called `to`: a part of the server says what is wrong
/// with its argument, who calls it knows where the client wrote that. A message
/// that begins with the path is changed too; all else stays.
/// Threads: safe.
absl::Status RenameField(const absl::Status& status, absl::string_view from,
                         absl::string_view to);

}  // namespace moescope
