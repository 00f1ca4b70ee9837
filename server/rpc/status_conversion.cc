#include "server/rpc/status_conversion_internal.h"

#include <cstddef>
#include <string>

#include <grpcpp/support/status_code_enum.h>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

#include "moescope/base/error.h"
#include "moescope/base/quote_name.h"

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

// A client refuses trailing metadata of more than 8 KiB with a status of its
// own. The message travels percent-encoded, up to three bytes for one, and once
// more in the details, which travel in base64, four for three:
// 3 * 900 + 4 / 3 * (900 + 1500 + the rest) stays well below.
constexpr std::size_t kMaxMessageBytes = 900;
// Of the facts and the wrong fields together.
constexpr std::size_t kMaxDetailBytes = 1500;
constexpr std::size_t kMaxFieldBytes = 120;
constexpr std::size_t kMaxDescriptionBytes = 400;

void AddDetails(const ErrorDetails& details, absl::StatusCode code,
                absl::string_view request_id, google::rpc::Status& out) {
  std::size_t room = kMaxDetailBytes;
  // Whether that many bytes still fit; then they are taken.
  const auto fits = [&room](std::size_t bytes) {
    if (bytes > room) {
      return false;
    }
    room -= bytes;
    return true;
  };
  google::rpc::ErrorInfo info;
  info.set_reason(details.reason.empty() ? StatusCodeName(code)
                                         : details.reason);
  info.set_domain(kErrorDomain);
  for (const auto& [name, fact] : details.metadata) {
    const std::string value = Shortened(fact, kMaxDescriptionBytes);
    if (fits(name.size() + value.size())) {
      (*info.mutable_metadata())[name] = value;
    }
  }
  out.add_details()->PackFrom(info);
  google::rpc::BadRequest bad_request;
  for (const FieldViolation& field : details.fields) {
    const std::string name = Shortened(field.field, kMaxFieldBytes);
    const std::string description =
        Shortened(field.description, kMaxDescriptionBytes);
    if (fits(name.size() + description.size())) {
      google::rpc::BadRequest::FieldViolation& violation =
          *bad_request.add_field_violations();
      violation.set_field(name);
      violation.set_description(description);
    }
  }
  if (bad_request.field_violations_size() > 0) {
    out.add_details()->PackFrom(bad_request);
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
  message.set_message(Shortened(status.message(), kMaxMessageBytes));
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
