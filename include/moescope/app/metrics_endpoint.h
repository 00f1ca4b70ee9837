#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "moescope/app/config.h"

namespace moescope {

/// Serves GET /metrics (Prometheus text) and GET /healthz over HTTP.
/// Threads: `metrics` is called from the endpoint's own threads.
class MetricsEndpoint {
 public:
  /// Listens at once; port 0 picks a free one. `metrics` makes the text.
  /// Errors: UNAVAILABLE ADDRESS_IN_USE, naming the address.
  static absl::StatusOr<std::unique_ptr<MetricsEndpoint>> Start(
      const ListenAddress& listen, std::function<std::string()> metrics);
  ~MetricsEndpoint();
  MetricsEndpoint(const MetricsEndpoint&) = delete;
  MetricsEndpoint& operator=(const MetricsEndpoint&) = delete;

  /// Host as asked for, port as it is.
  const std::string& address() const;

 private:
  struct State;
  explicit MetricsEndpoint(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace moescope
