#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace moescope::client {

/// The status of a call as absl::Status. `details` is the content of the
/// trailer `grpc-status-details-bin` (a google.rpc.Status, may be empty): its
/// ErrorInfo, BadRequest and RetryInfo become ErrorDetails (base/error.h).
/// Bytes that can't be read are passed over: the message still says what is
/// wrong.
absl::Status StatusFromRpc(int code, absl::string_view message,
                           const std::string& details);

/// What stands on stderr for a failed command: "error: " and the message, a
/// line for each wrong field whose text the message does not hold already,
/// reason and facts, and what to do. Ends with a newline.
std::string ErrorText(const absl::Status& status);

}  // namespace moescope::client
