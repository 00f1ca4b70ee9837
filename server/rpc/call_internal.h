#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <google/protobuf/message.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/sync_stream.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "moescope/base/run_context.h"
#include "moescope/base/status_macros.h"
#include "moescope/rpc/rpc_server.h"
#include "moescope/service/service.h"
#include "moescope/telemetry/metrics.h"

namespace moescope::internal {

/// What every handler works with; owned by the RpcServer.
struct CallEnvironment {
  CallEnvironment(moescope::Service& its_service, Metrics& its_metrics,
                  RpcServerOptions its_options)
      : service(its_service),
        metrics(its_metrics),
        options(std::move(its_options)) {}

  moescope::Service& service;
  Metrics& metrics;
  const RpcServerOptions options;
  /// The server is about to stop; calls under way are still answered.
  std::atomic<bool> draining{false};
  /// The server stops now: whatever waits ends.
  CancellationToken stopping;
  /// Streams and direct calls that are open.
  std::atomic<int> open_streams{0};
};

/// A place among the streams that may be open at once.
/// Threads: one.
class StreamPlace {
 public:
  explicit StreamPlace(CallEnvironment& environment)
      : environment_(environment),
        taken_before_(environment.open_streams.fetch_add(1)) {}
  ~StreamPlace() { environment_.open_streams.fetch_sub(1); }
  StreamPlace(const StreamPlace&) = delete;
  StreamPlace& operator=(const StreamPlace&) = delete;

  /// RESOURCE_EXHAUSTED STREAM_LIMIT when all were taken.
  absl::Status Check() const;

 private:
  CallEnvironment& environment_;
  const int taken_before_;
};

/// The host of what gRPC calls a peer: "127.0.0.1", "::1", "unix".
std::string HostOfPeer(const std::string& peer);

/// One call: who asks, until when, and what is counted of it.
/// Threads: one.
class Call {
 public:
  /// `method`: "JobService/GetJob".
  Call(CallEnvironment& environment, absl::string_view method,
       grpc::ServerContext& context, std::int64_t request_bytes);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  CallEnvironment& environment() const { return environment_; }
  moescope::Service& service() const { return environment_.service; }
  /// Metadata `moescope-client`, else the peer's host: one and the same over all
  /// connections, so that a call repeated over a new one is a repetition.
  std::string client() const;
  /// Metadata `traceparent`; empty: none.
  const std::string& traceparent() const { return traceparent_; }
  /// Of the caller; nothing when there is none.
  std::optional<absl::Time> deadline() const;

  /// UNAVAILABLE DRAINING when the server takes no new calls of this kind.
  absl::Status Admit() const;

  /// OK while the answer is wanted; DEADLINE_EXCEEDED, CANCELLED (the caller
  /// left) or UNAVAILABLE (the server stops).
  absl::Status Check() const;

  /// Calls `wait`, a function of a RunContext that can be called again after
  /// it gave up, in slices, so that a caller who left is noticed: gRPC's
  /// synchronous calls tell that only to those who ask.
  template <class Wait>
  auto WaitInSlices(Wait wait) const -> decltype(wait(RunContext())) {
    constexpr absl::Duration kSlice = absl::Milliseconds(200);
    for (;;) {
      MOESCOPE_RETURN_IF_ERROR(Check());
      RunContext slice;
      slice.set_deadline(absl::Now() + kSlice);
      auto result = wait(slice);
      // DEADLINE_EXCEEDED before the slice's end is the work's own.
      if (result.ok() || !absl::IsDeadlineExceeded(result.status()) ||
          slice.Check().ok()) {
        return result;
      }
    }
  }

  /// Metadata that goes before the first message.
  void AddInitialMetadata(const std::string& key, const std::string& value);
  /// Sends it now, where the handler can; else it goes with the answer.
  void SendInitialMetadata() {
    if (send_initial_metadata_) {
      send_initial_metadata_();
    }
  }
  void SetInitialMetadataSender(std::function<void()> sender) {
    send_initial_metadata_ = std::move(sender);
  }
  void CountSent(std::int64_t bytes) { sent_bytes_ += bytes; }

  /// Runs the use case; turns its status, or an exception, into what gRPC
  /// sends, and counts.
  grpc::Status Run(const std::function<absl::Status()>& use_case);

 private:
  grpc::Status Finish(const absl::Status& status);
  void CountCancelled(const absl::Status& status) const;

  CallEnvironment& environment_;
  const std::string method_;
  grpc::ServerContext& context_;
  const absl::Time start_;
  std::string traceparent_;
  std::function<void()> send_initial_metadata_;
  std::int64_t sent_bytes_ = 0;
};

/// RESOURCE_EXHAUSTED REPLY_TOO_LARGE when a reply exceeds what a unary call may
/// answer: stock clients would refuse it.
absl::Status CheckReplySize(const google::protobuf::Message& reply);

/// `use_case`: (const Call&, const Request&) → StatusOr<Response>; it may take
/// a mutable Call.
template <class Request, class Response, class UseCase>
grpc::Status HandleUnary(CallEnvironment& environment, absl::string_view method,
                         grpc::ServerContext* context, const Request* request,
                         Response* response, UseCase use_case) {
  Call call(environment, method, *context,
            static_cast<std::int64_t>(request->ByteSizeLong()));
  return call.Run([&]() -> absl::Status {
    MOESCOPE_RETURN_IF_ERROR(call.Check());
    MOESCOPE_RETURN_IF_ERROR(call.Admit());
    MOESCOPE_ASSIGN_OR_RETURN(*response, use_case(call, *request));
    if (absl::Status status = CheckReplySize(*response); !status.ok()) {
      response->Clear();
      return status;
    }
    call.CountSent(static_cast<std::int64_t>(response->ByteSizeLong()));
    return absl::OkStatus();
  });
}

/// HandleUnary for a method whose caller is told of its job before the answer:
/// initial metadata go when the use case sends them.
template <class Request, class Response, class UseCase>
grpc::Status HandleEarlyUnary(
    CallEnvironment& environment, absl::string_view method,
    grpc::ServerContext* context,
    grpc::ServerUnaryStreamer<Request, Response>* streamer, UseCase use_case) {
  Request request;
  const StreamPlace place(environment);
  const bool understood = streamer->Read(&request);
  Call call(environment, method, *context,
            static_cast<std::int64_t>(request.ByteSizeLong()));
  call.SetInitialMetadataSender([streamer] { streamer->SendInitialMetadata(); });
  return call.Run([&]() -> absl::Status {
    MOESCOPE_RETURN_IF_ERROR(call.Check());
    MOESCOPE_RETURN_IF_ERROR(call.Admit());
    MOESCOPE_RETURN_IF_ERROR(place.Check());
    if (!understood) {
      return absl::InvalidArgumentError(
          "the request is not the message that the method takes");
    }
    MOESCOPE_ASSIGN_OR_RETURN(const Response response, use_case(call, request));
    call.CountSent(static_cast<std::int64_t>(response.ByteSizeLong()));
    if (streamer->Write(response)) {
      return absl::OkStatus();
    }
    MOESCOPE_RETURN_IF_ERROR(call.Check());
    return absl::CancelledError("the connection was lost");
  });
}

/// Sends one message of a stream; the status is the caller's leaving.
template <class Response>
using Send = std::function<absl::Status(const Response&)>;

/// `use_case`: (Call&, const Request&, const Send<Response>&) → Status.
template <class Request, class Response, class UseCase>
grpc::Status HandleStream(CallEnvironment& environment,
                          absl::string_view method,
                          grpc::ServerContext* context, const Request* request,
                          grpc::ServerWriter<Response>* writer,
                          UseCase use_case) {
  const StreamPlace place(environment);
  Call call(environment, method, *context,
            static_cast<std::int64_t>(request->ByteSizeLong()));
  call.SetInitialMetadataSender([writer] { writer->SendInitialMetadata(); });
  const Send<Response> send = [&](const Response& message) -> absl::Status {
    MOESCOPE_RETURN_IF_ERROR(call.Check());
    call.CountSent(static_cast<std::int64_t>(message.ByteSizeLong()));
    if (writer->Write(message)) {
      return absl::OkStatus();
    }
    MOESCOPE_RETURN_IF_ERROR(call.Check());
    return absl::CancelledError("the connection was lost");
  };
  return call.Run([&]() -> absl::Status {
    MOESCOPE_RETURN_IF_ERROR(call.Admit());
    MOESCOPE_RETURN_IF_ERROR(place.Check());
    return use_case(call, *request, send);
  });
}

}  // namespace moescope::internal
