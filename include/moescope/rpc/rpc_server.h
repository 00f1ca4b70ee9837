#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "moescope/service/service.h"
#include "moescope/telemetry/metrics.h"

namespace moescope {

struct RpcServerOptions {
  /// "127.0.0.1:50051"; port 0 picks a free one.
  std::string listen = "127.0.0.1:0";
  /// Threads for calls; every call keeps one as long as it lives.
  int max_threads = 128;
  /// Streams and direct calls, which may live long, at once; one more is
  /// RESOURCE_EXHAUSTED STREAM_LIMIT. Well below max_threads: all other calls
  /// have the rest.
  int max_streams = 96;
  /// Jobs of a page, in bytes: a reply that stock clients take, less room for
  /// its page token.
  std::int64_t max_page_bytes = (std::int64_t{3} << 20) - 4096;
  /// A watched job that does not change sends a sign of life this often.
  absl::Duration watch_heartbeat = absl::Seconds(10);
  /// What GetServerInfo shows of the process.
  std::string model_root;
  std::string replica;
};

/// Serves moescope.v1, grpc.health.v1 and reflection. Handlers keep nothing:
/// all state is the service's.
/// Health: "liveness" is SERVING while the server lives; "", "readiness" and
/// the full name of each service follow SetReady.
/// Threads: safe.
class RpcServer {
 public:
  /// Listens at once; ready only after SetReady. `service` and `metrics`
  /// outlive the server. Errors: UNAVAILABLE ADDRESS_IN_USE, naming the
  /// address.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(
      RpcServerOptions options, Service& service, Metrics& metrics);
  /// Shuts down at once when Shutdown was not called.
  ~RpcServer();
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  /// Host as asked for, port as it is.
  const std::string& address() const;

  void SetReady(bool ready);
  /// Not ready any more. New calls get UNAVAILABLE DRAINING, but those of
  /// AdminService, where GetServerInfo says so; calls under way go on.
  void BeginDrain();
  /// Streams end with UNAVAILABLE, and what still runs after `grace` is cut.
  /// Blocks until no call is left.
  void Shutdown(absl::Duration grace);

 private:
  struct State;
  explicit RpcServer(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace moescope
