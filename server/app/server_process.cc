#include "server/app/server_process_internal.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "moescope/app/metrics_endpoint.h"
#include "moescope/base/clock.h"
#include "moescope/base/error.h"
#include "moescope/base/field_path.h"
#include "moescope/base/file.h"
#include "moescope/base/log.h"
#include "moescope/base/status_macros.h"
#include "moescope/rpc/rpc_server.h"
#include "moescope/service/service.h"
#include "moescope/telemetry/metrics.h"

namespace moescope::internal {
namespace {

constexpr int kInterruptedTwice = 130;
// What streams get to end by themselves after the drain.
constexpr absl::Duration kStreamGrace = absl::Seconds(2);

sigset_t EndingSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

// The next ending signal within `timeout`, or 0.
int WaitForSignal(absl::Duration timeout) {
  const sigset_t signals = EndingSignals();
  const timespec limit = absl::ToTimespec(timeout);
  const int signal = ::sigtimedwait(&signals, nullptr, &limit);
  return signal > 0 ? signal : 0;
}

// Everything that runs. Members go in reverse order: endpoints before what
// they ask.
struct Server {
  Metrics metrics;
  std::unique_ptr<Service> service;
  std::unique_ptr<RpcServer> rpc;
  std::unique_ptr<MetricsEndpoint> endpoint;
  /// Jobs of --preload that have not ended yet.
  std::vector<std::string> preloads;
};

std::string HostName() {
  char name[256] = {};
  return ::gethostname(name, sizeof(name) - 1) == 0 ? name : "";
}

// Options are named as their flags are.
absl::Status NameFlag(absl::Status status) {
  for (const FieldViolation& field : GetErrorDetails(status).fields) {
    status = RenameField(status, field.field, absl::StrCat("--", field.field));
  }
  return status;
}

absl::Status StartAll(const ServerConfig& config, Server& server) {
  MOESCOPE_ASSIGN_OR_RETURN(
      server.service,
      Service::Create(config.service, Clock::Real(), server.metrics));
  MOESCOPE_ASSIGN_OR_RETURN(const ServerView view,
                            server.service->GetServerInfo());
  const auto torch = view.versions.find("torch");
  server.metrics.SetBuildInfo(
      config.service.version,
      torch == view.versions.end() ? "unknown" : torch->second,
      view.blas_core);
  Log(view.blas_core_fits ? LogLevel::kInfo : LogLevel::kWarning, "blas",
      {{"core", view.blas_core},
       {"fitting", view.fitting_blas_core},
       {"gemm_gflops", view.gemm_gflops}});
  RpcServerOptions options;
  options.listen = config.listen;
  options.model_root = config.service.model_root;
  options.replica = HostName();
  MOESCOPE_ASSIGN_OR_RETURN(
      server.rpc,
      RpcServer::Start(std::move(options), *server.service, server.metrics));
  MOESCOPE_ASSIGN_OR_RETURN(const ListenAddress metrics_listen,
                            ParseListenAddress(config.metrics_listen));
  MOESCOPE_ASSIGN_OR_RETURN(
      server.endpoint, MetricsEndpoint::Start(metrics_listen, [&server] {
        server.service->PublishMetrics();
        return server.metrics.Serialize();
      }));
  for (const std::string& model : config.preload) {
    ModelJobRequest request;
    request.model = model;
    request.client = "preload";
    const auto job = server.service->LoadModel(std::move(request));
    if (!job.ok()) {
      return Annotate(job.status(), absl::StrCat("--preload: ", model));
    }
    server.preloads.push_back(job->id);
  }
  return absl::OkStatus();
}

absl::Status Announce(const ServerConfig& config, const Server& server) {
  const std::string& grpc = server.rpc->address();
  const std::string& metrics = server.endpoint->address();
  MOESCOPE_ASSIGN_OR_RETURN(const ServerView view,
                            server.service->GetServerInfo());
  std::cout << "moescope-server " << config.service.version << ": grpc "
            << grpc << ", metrics " << metrics << ", device "
            << (view.devices.empty() ? "none" : view.devices.front().name)
            << ", model root " << config.service.model_root << std::endl;
  // Last: whoever waits for it finds all the rest said.
  if (!config.port_file.empty()) {
    const absl::Status written = WriteFileAtomically(
        config.port_file,
        absl::StrCat("{\"grpc\": ", JsonQuote(grpc), ", \"metrics\": ",
                     JsonQuote(metrics), ", \"health\": ", JsonQuote(grpc),
                     "}\n"));
    return written.ok() ? written : Annotate(written, "--port_file");
  }
  return absl::OkStatus();
}

// Forgets the preloads that have ended, well or not.
void LookAtPreloads(Server& server) {
  std::vector<std::string> still;
  for (const std::string& id : server.preloads) {
    const auto job = server.service->GetJob(id);
    if (!job.ok() || !job->error.ok()) {
      const absl::Status& status = job.ok() ? job->error : job.status();
      Log(LogLevel::kError, "preload_failed",
          {{"job", id}, {"error", std::string(status.message())}});
    } else if (!job->finish_time.has_value()) {
      still.push_back(id);
    }
  }
  server.preloads = std::move(still);
}

// Serves until a signal comes; ready as soon as the preloads are done.
int ServeUntilSignal(Server& server) {
  bool ready = false;
  for (;;) {
    if (!ready) {
      LookAtPreloads(server);
      ready = server.preloads.empty();
      if (ready) {
        server.rpc->SetReady(true);
        server.metrics.SetReady(true);
        Log(LogLevel::kInfo, "ready");
      }
    }
    const absl::Duration look =
        ready ? absl::Hours(1) : absl::Milliseconds(100);
    if (const int signal = WaitForSignal(look); signal != 0) {
      return signal;
    }
  }
}

void ExitOnSecondSignal() {
  std::thread([] {
    const sigset_t signals = EndingSignals();
    int signal = 0;
    while (sigwait(&signals, &signal) != 0) {
    }
    ::_exit(kInterruptedTwice);
  }).detach();
}

void Drain(const ServerConfig& config, Server& server) {
  server.metrics.SetReady(false);
  server.metrics.SetDraining(true);
  server.rpc->BeginDrain();
  server.service->Drain(config.drain_grace);
  server.rpc->Shutdown(kStreamGrace);
}

}  // namespace

void BlockEndingSignals() {
  const sigset_t signals = EndingSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // Writing to a lost connection is an error code, not an end.
  ::signal(SIGPIPE, SIG_IGN);
}

int RunServer(const ServerConfig& config) {
  SetLogLevel(config.log_level);
  Server server;
  absl::Status status = StartAll(config, server);
  if (status.ok()) {
    status = Announce(config, server);
  }
  if (!status.ok()) {
    std::cerr << "moescope-server: " << std::string(NameFlag(status).message())
              << std::endl;
    return 1;
  }
  const int signal = ServeUntilSignal(server);
  Log(LogLevel::kInfo, "draining", {{"signal", signal}});
  ExitOnSecondSignal();
  Drain(config, server);
  Log(LogLevel::kInfo, "stopped");
  return 0;
}

}  // namespace moescope::internal
