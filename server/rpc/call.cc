#include <chrono>
#include <exception>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

#include "moescope/base/draining.h"
#include "moescope/base/error.h"
#include "moescope/base/log.h"
#include "moescope/codec/messages.h"
#include "server/rpc/call_internal.h"
#include "server/rpc/status_conversion_internal.h"

namespace moescope::internal {
namespace {

// Longer names and trace contexts are cut: they go into records and logs.
constexpr std::size_t kMaxMetadataLength = 128;

std::string Metadata(const grpc::ServerContext& context, const char* key) {
  const auto found = context.client_metadata().find(key);
  if (found == context.client_metadata().end()) {
    return "";
  }
  return std::string(found->second.data(), found->second.size())
      .substr(0, kMaxMetadataLength);
}

absl::Status ExceptionStatus(const std::string& method, const char* what) {
  // The text may hold paths, so it stays here.
  Log(LogLevel::kError, "rpc_exception", {{"method", method}, {"what", what}});
  ErrorDetails details;
  details.reason = "INTERNAL";
  return MakeError(absl::StatusCode::kInternal,
                   "an error of the server; its log says more", details);
}

}  // namespace

absl::Status StreamPlace::Check() const {
  const int limit = environment_.options.max_streams;
  if (taken_before_ < limit) {
    return absl::OkStatus();
  }
  ErrorDetails details;
  details.reason = "STREAM_LIMIT";
  details.metadata["limit"] = absl::StrCat(limit);
  // A guess: streams end when their work does.
  details.retry_after = absl::Seconds(5);
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("streams: ", limit,
                                " are open, and no more are allowed; close "
                                "one or try again later"),
                   details);
}

absl::Status CheckReplySize(const google::protobuf::Message& reply) {
  const auto bytes = static_cast<std::int64_t>(reply.ByteSizeLong());
  if (bytes <= codec::kMaxUnaryReplyBytes) {
    return absl::OkStatus();
  }
  ErrorDetails details;
  details.reason = "REPLY_TOO_LARGE";
  details.metadata["limit"] = absl::StrCat(codec::kMaxUnaryReplyBytes);
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("the reply has ", bytes, " bytes, at most ",
                                codec::kMaxUnaryReplyBytes,
                                " are allowed: ask for less at once"),
                   details);
}

Call::Call(CallEnvironment& environment, absl::string_view method,
           grpc::ServerContext& context, std::int64_t request_bytes)
    : environment_(environment),
      method_(method),
      context_(context),
      start_(absl::Now()),
      traceparent_(Metadata(context, "traceparent")) {
  environment_.metrics.RpcStarted(method_);
  environment_.metrics.RpcBytes("received", request_bytes);
}

std::string HostOfPeer(const std::string& peer) {
  // "ipv4:127.0.0.1:50000", "ipv6:[::1]:50000" or, with the brackets escaped,
  // "ipv6:%5B::1%5D:50000"; "unix:…".
  absl::string_view host = peer;
  if (!absl::ConsumePrefix(&host, "ipv4:") &&
      !absl::ConsumePrefix(&host, "ipv6:")) {
    return peer.substr(0, peer.find(':'));
  }
  host = host.substr(0, host.rfind(':'));
  return absl::StrReplaceAll(
      host, {{"[", ""}, {"]", ""}, {"%5B", ""}, {"%5D", ""}});
}

std::string Call::client() const {
  const std::string name = Metadata(context_, "moescope-client");
  return name.empty() ? HostOfPeer(context_.peer()) : name;
}

std::optional<absl::Time> Call::deadline() const {
  const std::chrono::system_clock::time_point deadline = context_.deadline();
  // Without a deadline gRPC gives the end of time.
  if (deadline >= std::chrono::system_clock::now() +
                      std::chrono::hours(24 * 365)) {
    return std::nullopt;
  }
  return absl::FromChrono(deadline);
}

absl::Status Call::Admit() const {
  // Who asks the server about itself is to see that it is going down.
  const bool open = absl::StartsWith(method_, "AdminService/");
  return environment_.draining.load() && !open ? DrainingError()
                                               : absl::OkStatus();
}

absl::Status Call::Check() const {
  // A passed deadline also looks cancelled, so it is asked for first.
  const std::optional<absl::Time> end = deadline();
  if (end.has_value() && absl::Now() >= *end) {
    return absl::DeadlineExceededError("the call's deadline passed");
  }
  if (environment_.stopping.cancelled()) {
    return environment_.stopping.status();
  }
  if (context_.IsCancelled()) {
    return absl::CancelledError("the caller left");
  }
  return absl::OkStatus();
}

void Call::AddInitialMetadata(const std::string& key,
                              const std::string& value) {
  context_.AddInitialMetadata(key, value);
}

grpc::Status Call::Run(const std::function<absl::Status()>& use_case) {
  try {
    return Finish(use_case());
  } catch (const std::exception& error) {
    return Finish(ExceptionStatus(method_, error.what()));
  } catch (...) {
    return Finish(ExceptionStatus(method_, "of no known type"));
  }
}

grpc::Status Call::Finish(const absl::Status& status) {
  const absl::Duration took = absl::Now() - start_;
  const grpc::Status sent = ToGrpcStatus(status, traceparent_);
  if (const auto pushback = RetryPushbackMs(status); pushback.has_value()) {
    context_.AddTrailingMetadata("grpc-retry-pushback-ms",
                                 absl::StrCat(*pushback));
  }
  const std::string code =
      StatusCodeName(static_cast<absl::StatusCode>(sent.error_code()));
  environment_.metrics.RpcBytes("sent", sent_bytes_);
  environment_.metrics.RpcFinished(method_, code, took);
  CountCancelled(status);
  if (!status.ok()) {
    const bool ours = sent.error_code() == grpc::StatusCode::INTERNAL ||
                      sent.error_code() == grpc::StatusCode::DATA_LOSS;
    Log(ours ? LogLevel::kError : LogLevel::kInfo, "rpc_failed",
        {{"method", method_},
         {"code", code},
         {"message", std::string(status.message())},
         {"client", client()},
         {"traceparent", traceparent_},
         {"seconds", absl::ToDoubleSeconds(took)}});
  }
  return sent;
}

void Call::CountCancelled(const absl::Status& status) const {
  if (absl::IsDeadlineExceeded(status)) {
    environment_.metrics.RpcCancelled("deadline");
  } else if (environment_.stopping.cancelled() && !status.ok()) {
    environment_.metrics.RpcCancelled("server");
  } else if (absl::IsCancelled(status)) {
    environment_.metrics.RpcCancelled("client");
  }
}

}  // namespace moescope::internal
