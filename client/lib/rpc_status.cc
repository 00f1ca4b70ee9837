#include "client/lib/rpc_status.h"

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

#include "moescope/base/error.h"

namespace moescope::client {
namespace {

ErrorDetails ReadDetails(const google::rpc::Status& status) {
  ErrorDetails out;
  for (const google::protobuf::Any& any : status.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    if (any.UnpackTo(&info)) {
      out.reason = info.reason();
      out.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (any.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        out.fields.push_back({violation.field(), violation.description()});
      }
    } else if (any.UnpackTo(&retry)) {
      out.retry_after = absl::Seconds(retry.retry_delay().seconds()) +
                        absl::Nanoseconds(retry.retry_delay().nanos());
    }
  }
  return out;
}

// Whether waiting changes nothing: a limit of the request's own size. gRPC's own
// refusal has no reason.
bool IsSizeLimit(absl::string_view reason, absl::string_view message) {
  return reason == "TOKEN_LIMIT" || reason == "REPLY_TOO_LARGE" ||
         reason == "WORKSPACE_TOO_LARGE" || reason == "REGEX_LIMIT" ||
         absl::StrContains(message, "message larger than max");
}

// What a reason asks of the caller, where its code alone does not tell.
constexpr std::pair<absl::string_view, absl::string_view> kAdviceForReasons[] =
    {{"CONTENT_CHANGED",
      "restore the file, or touch it where the change is meant, then try again"},
     {"JOB_NOT_FOUND", "look at `jobs list` for what is there"},
     {"MODEL_IN_USE",
      "wait for the jobs that use it, or cancel them: see `jobs list`"},
     {"MODEL_NOT_FOUND", "look at `models list` for what is there"},
     {"MODEL_NOT_LOADED", "load it with `models load`, then try again"},
     {"MODEL_TOO_LARGE",
      "unload other models with `models unload`, or let the operator raise "
      "--memory_budget"},
     {"NO_TOKENIZER", "send token ids (--tokens) instead of text"},
     {"RESULT_NOT_FOUND",
      "ask for it again with the command that computed it"}};

// What the code, or its reason, asks of the caller; empty where the message
// says it. Of a failed precondition only the message knows what to change, if
// anything: a dense model stays dense.
absl::string_view Advice(absl::StatusCode code, absl::string_view reason,
                         absl::string_view message) {
  for (const auto& [known, advice] : kAdviceForReasons) {
    if (reason == known) {
      return advice;
    }
  }
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return "correct the request";
    case absl::StatusCode::kNotFound:
      return "look at `models list`, `jobs list` or `analyses list` for what "
             "is there";
    case absl::StatusCode::kAlreadyExists:
      return "choose another name or request id";
    case absl::StatusCode::kResourceExhausted:
      return IsSizeLimit(reason, message)
                 ? "ask for less at once: waiting does not change the limit"
                 : "try again later, or ask for less";
    case absl::StatusCode::kUnavailable:
      return "check that the server runs and that --server names its address, "
             "or try again soon";
    case absl::StatusCode::kDeadlineExceeded:
      return "allow more time with --timeout, or submit with `analyze "
             "--detach`";
    case absl::StatusCode::kDataLoss:
      return "look at the file that the message names: a key or tensor is "
             "absent, damaged or contradicts another; fetch it again, or "
             "correct it";
    case absl::StatusCode::kUnimplemented:
      return "this server does not support what the message names";
    case absl::StatusCode::kInternal:
      return "this is an error of moescope: please report it with the server's "
             "log";
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return "ask the operator for access";
    default:
      return "";
  }
}

}  // namespace

absl::Status StatusFromRpc(int code, absl::string_view message,
                           const std::string& details) {
  const auto status_code = static_cast<absl::StatusCode>(code);
  google::rpc::Status status;
  if (details.empty() || !status.ParseFromString(details)) {
    return absl::Status(status_code, message);
  }
  return MakeError(status_code, message, ReadDetails(status));
}

std::string ErrorText(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  std::string out = absl::StrCat("error: ", status.message(), "\n");
  for (const FieldViolation& field : details.fields) {
    if (!absl::StrContains(status.message(), field.description)) {
      absl::StrAppend(&out, "  ", field.field, ": ", field.description, "\n");
    }
  }
  absl::StrAppend(&out, "  ", absl::StatusCodeToString(status.code()));
  if (!details.reason.empty() &&
      details.reason != absl::StatusCodeToString(status.code())) {
    absl::StrAppend(&out, " ", details.reason);
  }
  for (const auto& [key, value] : details.metadata) {
    absl::StrAppend(&out, " ", key, "=", value);
  }
  out += "\n";
  if (details.retry_after.has_value()) {
    absl::StrAppend(&out, "  try again in ",
                    absl::FormatDuration(*details.retry_after), "\n");
  } else if (const absl::string_view advice =
                 Advice(status.code(), details.reason, status.message());
             !advice.empty()) {
    absl::StrAppend(&out, "  ", advice, "\n");
  }
  return out;
}

}  // namespace moescope::client
