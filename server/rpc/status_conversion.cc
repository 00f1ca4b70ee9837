#include "server/rpc/status_conversion_internal.h"

#include <string>

#include <grpcpp/support/status_code_enum.h>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

#include "moescope/base/error.h"

namespace moescope::internal {
namespace {

// Codes are converted by value.
#define MOESCOPE_SAME_CODE(absl_code, grpc_code)                      \
  static_assert(static_cast<int>(absl::StatusCode::absl_code) ==      \
                    static_cast<int>(grpc::StatusCode::grpc_code),    \
                "absl and gRPC number " #grpc_code " differently")
MOESCOPE_SAME_CODE(kOk, OK);
MOESCOPE_SAME_CODE(kCancelled, CANCELLED);
MOESCOPE_SAME_CODE(kUnknown, UNKNOWN);
MOESCOPE_SAME_CODE(kInvalidArgument, INVALID_ARGUMENT);
MOESCOPE_SAME_CODE(kDeadlineExceeded, DEADLINE_EXCEEDED);
MOESCOPE_SAME_CODE(kNotFound, NOT_FOUND);
MOESCOPE_SAME_CODE(kAlreadyExists, ALREADY_EXISTS);
MOESCOPE_SAME_CODE(kPermissionDenied, PERMISSION_DENIED);
MOESCOPE_SAME_CODE(kResourceExhausted, RESOURCE_EXHAUSTED);
MOESCOPE_SAME_CODE(kFailedPrecondition, FAILED_PRECONDITION);
MOESCOPE_SAME_CODE(kAborted, ABORTED);
MOESCOPE_SAME_CODE(kOutOfRange, OUT_OF_RANGE);
MOESCOPE_SAME_CODE(kUnimplemented, UNIMPLEMENTED);
MOESCOPE_SAME_CODE(kInternal, INTERNAL);
MOESCOPE_SAME_CODE(kUnavailable, UNAVAILABLE);
MOESCOPE_SAME_CODE(kDataLoss, DATA_LOSS);
MOESCOPE_SAME_CODE(kUnauthenticated, UNAUTHENTICATED);
#undef MOESCOPE_SAME_CODE

// absl::Status::code() maps numbers beyond the known ones to UNKNOWN.
absl::StatusCode ClientCode(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnknown
             ? absl::StatusCode::kInternal
             : status.code();
}

void AddDetails(const ErrorDetails& details, absl::StatusCode code,
                absl::string_view request_id, google::rpc::Status& out) {
  google::rpc::ErrorInfo info;
  info.set_reason(details.reason.empty() ? StatusCodeName(code)
                                         : details.reason);
  info.set_domain(kErrorDomain);
  info.mutable_metadata()->insert(details.metadata.begin(),
                                  details.metadata.end());
  out.add_details()->PackFrom(info);
  if (!details.fields.empty()) {
    google::rpc::BadRequest request;
    for (const FieldViolation& field : details.fields) {
      google::rpc::BadRequest::FieldViolation& violation =
          *request.add_field_violations();
      violation.set_field(field.field);
      violation.set_description(field.description);
    }
    out.add_details()->PackFrom(request);
  }
  if (details.retry_after.has_value()) {
    google::rpc::RetryInfo retry;
    const absl::Duration delay = *details.retry_after;
    retry.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(delay));
    retry.mutable_retry_delay()->set_nanos(static_cast<std::int32_t>(
        absl::ToInt64Nanoseconds(delay % absl::Seconds(1))));
    out.add_details()->PackFrom(retry);
  }
  if (!request_id.empty()) {
    google::rpc::RequestInfo request;
    request.set_request_id(std::string(request_id));
    out.add_details()->PackFrom(request);
  }
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status,
                          absl::string_view request_id) {
  if (status.ok()) {
    return grpc::Status::OK;
  }
  const absl::StatusCode code = ClientCode(status);
  google::rpc::Status message;
  message.set_code(static_cast<int>(code));
  message.set_message(std::string(status.message()));
  AddDetails(GetErrorDetails(status), code, request_id, message);
  return grpc::Status(static_cast<grpc::StatusCode>(code), message.message(),
                      message.SerializeAsString());
}

std::string StatusCodeName(absl::StatusCode code) {
  return absl::StatusCodeToString(code);
}

std::optional<std::int64_t> RetryPushbackMs(const absl::Status& status) {
  if (status.code() != absl::StatusCode::kResourceExhausted) {
    return std::nullopt;
  }
  const ErrorDetails details = GetErrorDetails(status);
  if (!details.retry_after.has_value()) {
    return std::nullopt;
  }
  return absl::ToInt64Milliseconds(*details.retry_after);
}

}  // namespace moescope::internal
