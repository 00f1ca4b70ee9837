#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "moescope/base/log.h"
#include "moescope/service/service.h"

namespace moescope {

/// Everything that flags and the configuration file say.
struct ServerConfig {
  ServiceOptions service;
  std::string listen = "127.0.0.1:50051";
  std::string metrics_listen = "127.0.0.1:9464";
  bool allow_insecure_remote = false;
  std::vector<std::string> preload;
  absl::Duration drain_grace = absl::Seconds(30);
  LogLevel log_level = LogLevel::kInfo;
  /// Receives the addresses as JSON; empty: none.
  std::string port_file;
};

/// A command line that was understood, or the status to exit with: 0 after
/// --help and --version, 2 for wrong usage.
struct CommandLine {
  ServerConfig config;
  std::optional<int> exit_status;
};

/// Reads the command line; says on `err` what is wrong with it and what is
/// allowed, on `out` what --help and --version ask for.
CommandLine ParseCommandLine(int argc, const char* const* argv,
                             std::ostream& out, std::ostream& err);

/// An address to listen on.
struct ListenAddress {
  std::string host;
  int port = 0;
};

/// Reads "127.0.0.1:50051", "[::1]:0". Errors: INVALID_ARGUMENT.
absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text);

/// Whether only this machine can reach the host.
bool IsLoopback(absl::string_view host);

/// What --memory_budget says: bytes, or a share of the device's memory, whose
/// size is known only when the device is.
struct MemoryBudget {
  std::int64_t bytes = 0;  ///< 0: `share` counts.
  double share = 0;        ///< In [0.01, 1].
};
/// Reads "4GiB", "1048576" or "90%". Errors: INVALID_ARGUMENT (not in
/// [1 %, 100 %], below 1 MiB).
absl::StatusOr<MemoryBudget> ParseMemoryBudget(absl::string_view text);

}  // namespace moescope
