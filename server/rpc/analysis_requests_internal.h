#pragma once

#include <google/protobuf/message.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "moescope/v1/analysis.pb.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/codec/messages.h"
#include "moescope/service/service.h"
#include "server/rpc/call_internal.h"
#include "server/rpc/messages_internal.h"

namespace moescope::internal {

/// What every request for an analysis has: who asks, and the policies.
template <class Request>
absl::StatusOr<AnalysisRequest> NewRequest(const Call& call,
                                           const Request& request) {
  AnalysisRequest asked;
  asked.client = call.client();
  asked.traceparent = call.traceparent();
  MOESCOPE_ASSIGN_OR_RETURN(asked.cache_policy,
                            FromMessage(request.cache_policy()));
  MOESCOPE_ASSIGN_OR_RETURN(asked.load_policy,
                            FromMessage(request.load_policy()));
  return asked;
}

/// A direct call's request: NewRequest, its Spec, and the caller's deadline.
template <class Request>
absl::StatusOr<AnalysisRequest> DirectRequest(const Call& call,
                                              const Request& request) {
  if (!request.has_spec()) {
    return InvalidField("spec", "is absent, and required");
  }
  MOESCOPE_ASSIGN_OR_RETURN(AnalysisRequest asked, NewRequest(call, request));
  MOESCOPE_ASSIGN_OR_RETURN(asked.spec, codec::SpecFromMessage(request.spec()));
  asked.priority = Priority::kInteractive;
  asked.deadline = call.deadline();
  return asked;
}

/// Takes the request's `input`, unless the Spec has one: then INVALID_ARGUMENT,
/// field "input".
template <class Request>
absl::Status TakeInput(const Request& request, AnalysisRequest& asked) {
  if (!request.has_input()) {
    return absl::OkStatus();
  }
  const spec::TokenInput* const tokens = spec::GetTokenInput(asked.spec);
  if (tokens != nullptr && !tokens->ids.empty()) {
    return InvalidField("input", "is given together with the Spec's own: give one");
  }
  MOESCOPE_ASSIGN_OR_RETURN(asked.input,
                            codec::InputFromMessage(request.input()));
  return absl::OkStatus();
}

/// Whether a reply exceeds what a unary call may answer.
bool TooLargeForReply(const google::protobuf::Message& reply);

absl::StatusOr<v1::ListAnalysesResponse> ListAnalyses(
    Call& call, const v1::ListAnalysesRequest& request);

}  // namespace moescope::internal
