#include "moescope/app/metrics_endpoint.h"

#include <sys/socket.h>

#include <cstddef>
#include <thread>
#include <utility>

#include <httplib.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/quote_name.h"

namespace moescope {
namespace {

// Scrapes come one at a time; the second is for a probe.
constexpr std::size_t kThreads = 2;

// The library's own choice lets a second server take the same port.
void ReuseAddressOnly(socket_t socket) {
  const int yes = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
}

}  // namespace

struct MetricsEndpoint::State {
  httplib::Server server;
  std::string address;
  std::thread thread;
};

absl::StatusOr<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::Start(
    const ListenAddress& listen, std::function<std::string()> metrics) {
  auto state = std::make_unique<State>();
  httplib::Server& server = state->server;
  server.set_socket_options(ReuseAddressOnly);
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.Get("/metrics", [metrics = std::move(metrics)](
                             const httplib::Request&,
                             httplib::Response& response) {
    response.set_content(metrics(), "text/plain; version=0.0.4");
  });
  server.Get("/healthz",
             [](const httplib::Request&, httplib::Response& response) {
               response.set_content("ok\n", "text/plain");
             });
  int port = listen.port;
  if (port == 0) {
    port = server.bind_to_any_port(listen.host);
  } else if (!server.bind_to_port(listen.host, port)) {
    port = -1;
  }
  const bool brackets = absl::StrContains(listen.host, ":");
  const std::string host =
      brackets ? absl::StrCat("[", listen.host, "]") : listen.host;
  if (port < 0) {
    return FieldError(
        absl::StatusCode::kUnavailable, "metrics_listen",
        absl::StrCat(QuoteName(absl::StrCat(host, ":", listen.port)),
                     " is in use or not of this machine"),
        "ADDRESS_IN_USE");
  }
  state->address = absl::StrCat(host, ":", port);
  State* const raw = state.get();
  state->thread = std::thread([raw] { raw->server.listen_after_bind(); });
  return std::unique_ptr<MetricsEndpoint>(
      new MetricsEndpoint(std::move(state)));
}

MetricsEndpoint::MetricsEndpoint(std::unique_ptr<State> state)
    : state_(std::move(state)) {}

MetricsEndpoint::~MetricsEndpoint() {
  // Before the loop runs there is nothing that stop() could end.
  while (!state_->server.is_running()) {
    std::this_thread::yield();
  }
  state_->server.stop();
  state_->thread.join();
}

const std::string& MetricsEndpoint::address() const { return state_->address; }

}  // namespace moescope
