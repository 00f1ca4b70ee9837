#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace moescope::internal {

/// The domain of every ErrorInfo.
inline constexpr char kErrorDomain[] = "moescope";

/// `status` as gRPC sends it. The details of base/error.h travel as a
/// google.rpc.Status in `grpc-status-details-bin`: ErrorInfo (also without a
/// reason: then the code's name), BadRequest, RetryInfo; RequestInfo where
/// `request_id` is not empty. A code that clients must not see (UNKNOWN, or one
/// beyond the known) becomes INTERNAL. Long texts are cut and what then does not
/// fit is left out, so that a client can take it: 8 KiB in all.
grpc::Status ToGrpcStatus(const absl::Status& status,
                          absl::string_view request_id = "");

/// "NOT_FOUND", ….
std::string StatusCodeName(absl::StatusCode code);

/// Milliseconds for the trailer `grpc-retry-pushback-ms`: of a
/// RESOURCE_EXHAUSTED that says when to try again.
std::optional<std::int64_t> RetryPushbackMs(const absl::Status& status);

}  // namespace moescope::internal
