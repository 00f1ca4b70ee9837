#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace moescope::internal {

/// The details of `status` (base/error.h) in a form that stays readable over
/// versions of the program: netstrings ("<length>:<bytes>").
std::string EncodeErrorDetails(const absl::Status& status);

/// The status with that code, message and details; details that can't be read
/// are left out.
absl::Status DecodeError(absl::StatusCode code, absl::string_view message,
                         absl::string_view details);

}  // namespace moescope::internal
