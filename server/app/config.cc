#include "moescope/app/config.h"

#include <cstdint>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

#include "moescope/base/byte_size.h"
#include "moescope/base/error.h"
#include "moescope/base/quote_name.h"
#include "moescope/base/status_macros.h"
#include "server/app/version_internal.h"

namespace moescope {
namespace {

constexpr int kWrongUsage = 2;
constexpr std::int64_t kLeastBudgetBytes = std::int64_t{1} << 20;

// The file of --config: a flag per line, as `name=value`, with comments after #
// or ;. CLI11 reads it; this says where a line is wrong, and knows later which
// line gave a flag its value.
class FlagFile final : public CLI::ConfigTOML {
 public:
  explicit FlagFile(const CLI::App& app) : app_(app) {}

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    std::string text;
    std::string line;
    for (int number = 1; std::getline(input, line); ++number) {
      CheckLine(absl::StripAsciiWhitespace(line), number);
      absl::StrAppend(&text, line, "\n");
    }
    std::istringstream lines(text);
    return CLI::ConfigTOML::from_config(lines);
  }

  // "line 3 of FILE" when the value of the first flag that `message` names comes
  // from there; else empty.
  std::string Origin(absl::string_view message) const {
    const std::size_t begin = message.find("--");
    if (begin == absl::string_view::npos) {
      return "";
    }
    const absl::string_view rest = message.substr(begin + 2);
    const auto found = lines_.find(std::string(
        rest.substr(0, rest.find_first_not_of(kNameCharacters))));
    return found == lines_.end() ? "" : Place(found->second);
  }

 private:
  static constexpr absl::string_view kNameCharacters =
      "abcdefghijklmnopqrstuvwxyz_";

  std::string Place(int number) const {
    return absl::StrCat("line ", number, " of ",
                        QuoteName(app_.get_config_ptr()->as<std::string>()));
  }

  // Errors: throws CLI::ConfigError.
  void CheckLine(absl::string_view line, int number) const {
    if (line.empty() || line.front() == '#' || line.front() == ';') {
      return;
    }
    const std::size_t equals = line.find('=');
    const std::string name(
        absl::StripAsciiWhitespace(line.substr(0, equals)));
    const CLI::Option* const option =
        app_.get_option_no_throw(absl::StrCat("--", name));
    if (option == nullptr || !option->get_configurable()) {
      Refuse(number, absl::StrCat(QuoteName(name), " is no flag"));
    }
    const absl::string_view value =
        equals == absl::string_view::npos
            ? ""
            : absl::StripAsciiWhitespace(line.substr(equals + 1));
    if (value.empty()) {
      Refuse(number, absl::StrCat(QuoteName(name),
                                  " has no value: write name=value"));
    }
    const auto [first, is_new] = lines_.emplace(name, number);
    if (!is_new) {
      Refuse(number, absl::StrCat(QuoteName(name), " stands on line ",
                                  first->second, " already"));
    }
    if (!option->empty()) {
      lines_.erase(first);  // The command line's value counts.
    }
  }

  [[noreturn]] void Refuse(int number, absl::string_view what) const {
    throw CLI::ConfigError(absl::StrCat(Place(number), ": ", what),
                           CLI::ExitCodes::ConfigError);
  }

  const CLI::App& app_;
  // CLI11 reads through a const object.
  mutable std::map<std::string, int> lines_;
};

// What flags hold before they are understood.
struct RawFlags {
  std::string memory_budget;
  std::string cache_bytes = "20GiB";
  std::string store = "sqlite";
  std::string drain_grace = "30s";
  std::string log_level = "info";
};

absl::Status WrongFlag(absl::string_view flag, absl::string_view value,
                       absl::string_view allowed) {
  return InvalidField(absl::StrCat("--", flag),
                      absl::StrCat("\"", value, "\" is not ", allowed));
}

absl::Status CheckDevice(const std::string& device) {
  absl::string_view number = device;
  int index = 0;
  const bool cuda = absl::ConsumePrefix(&number, "cuda:") &&
                    absl::SimpleAtoi(number, &index) && index >= 0;
  if (device == "auto" || device == "cpu" || cuda) {
    return absl::OkStatus();
  }
  return WrongFlag("device", device, "one of auto, cpu, cuda:N");
}

absl::Status CheckListen(absl::string_view flag, const std::string& text,
                         bool allow_remote) {
  const absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
  if (!address.ok()) {
    return WrongFlag(flag, text, "HOST:PORT, as in 127.0.0.1:50051");
  }
  if (!allow_remote && !IsLoopback(address->host)) {
    return InvalidField(
        absl::StrCat("--", flag),
        absl::StrCat("\"", text,
                     "\" can be reached from other machines, and nothing "
                     "protects it: listen on 127.0.0.1, or say "
                     "--allow_insecure_remote"));
  }
  return absl::OkStatus();
}

absl::Status ReadBudget(const RawFlags& raw, ServiceOptions& options) {
  if (raw.memory_budget.empty()) {
    return absl::OkStatus();
  }
  const auto budget = ParseMemoryBudget(raw.memory_budget);
  if (!budget.ok()) {
    return WrongFlag("memory_budget", raw.memory_budget,
                     "a size of at least 1MiB (BYTES, 4GiB) or a share (1% to 100%)");
  }
  options.memory_budget_bytes = budget->bytes;
  if (budget->bytes == 0) {
    options.memory_budget_share = budget->share;
  }
  return absl::OkStatus();
}

absl::Status Understand(const RawFlags& raw, ServerConfig& config) {
  MOESCOPE_RETURN_IF_ERROR(CheckDevice(config.service.device));
  MOESCOPE_RETURN_IF_ERROR(ReadBudget(raw, config.service));
  const auto cache = ParseByteSize(raw.cache_bytes);
  if (!cache.ok() || *cache <= 0) {
    return WrongFlag("cache_bytes", raw.cache_bytes,
                     "a size above 0, as in 20GiB");
  }
  config.service.cache_disk_bytes = *cache;
  if (raw.store != "sqlite") {
    return WrongFlag("store", raw.store, "one of sqlite");
  }
  if (!absl::ParseDuration(raw.drain_grace, &config.drain_grace) ||
      config.drain_grace < absl::ZeroDuration() ||
      config.drain_grace > absl::Hours(24)) {
    return WrongFlag("drain_grace", raw.drain_grace,
                     "a duration from 0s to 24h, as in 30s");
  }
  const auto level = ParseLogLevel(raw.log_level);
  if (!level.ok()) {
    return WrongFlag("log_level", raw.log_level,
                     "one of debug, info, warning, error");
  }
  config.log_level = *level;
  MOESCOPE_RETURN_IF_ERROR(
      CheckListen("listen", config.listen, config.allow_insecure_remote));
  return CheckListen("metrics_listen", config.metrics_listen,
                     config.allow_insecure_remote);
}

void AddFlags(CLI::App& app, ServerConfig& config, RawFlags& raw) {
  ServiceOptions& service = config.service;
  app.add_option("--model_root", service.model_root,
                 "folder of checkpoints, or a Hugging Face cache; required");
  app.add_option("--data_dir", service.data_dir, "jobs and results live here")
      ->capture_default_str();
  app.add_option("--listen", config.listen, "address for gRPC; port 0: any")
      ->capture_default_str();
  app.add_option("--metrics_listen", config.metrics_listen,
                 "address for Prometheus; port 0: any")
      ->capture_default_str();
  app.add_flag("--allow_insecure_remote", config.allow_insecure_remote,
               "let other machines in, unprotected");
  app.add_option("--device", service.device, "auto, cpu, cuda:N")
      ->capture_default_str();
  app.add_option("--memory_budget", raw.memory_budget,
                 "memory for models and work, of the device: BYTES, 4GiB, 90%; "
                 "default 80%");
  app.add_option("--cache_bytes", raw.cache_bytes,
                 "results kept on disk before old ones are evicted")
      ->capture_default_str();
  app.add_option("--threads", service.threads,
                 "threads that compute; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--preload", config.preload,
                 "models to load before the server is ready")
      ->delimiter(',');
  app.add_option("--store", raw.store, "where jobs are kept: sqlite")
      ->capture_default_str();
  app.add_option("--drain_grace", raw.drain_grace,
                 "how long running work may go on after SIGTERM")
      ->capture_default_str();
  app.add_option("--max_queued_jobs", service.max_queued_jobs,
                 "jobs that may wait")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{10000000}))
      ->capture_default_str();
  app.add_option("--max_tokens", service.max_tokens,
                 "tokens of one request's input")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 31))
      ->capture_default_str();
  app.add_option("--log_level", raw.log_level, "debug, info, warning, error")
      ->capture_default_str();
  app.add_option("--port_file", config.port_file,
                 "receives the addresses as JSON");
  app.set_config("--config", "", "file of flags, one name=value per line");
  app.set_version_flag("--version",
                       absl::StrCat("moescope-server ", kVersion));
}

std::string FlagNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* const option : app.get_options()) {
    names.push_back(option->get_name());
  }
  return absl::StrJoin(names, " ");
}

}  // namespace

CommandLine ParseCommandLine(int argc, const char* const* argv,
                             std::ostream& out, std::ostream& err) {
  CommandLine line;
  line.config.service.data_dir = "./moescope-data";
  line.config.service.version = kVersion;
  RawFlags raw;
  CLI::App app("Answers questions about the inside of Mixture-of-Experts "
               "checkpoints over gRPC.",
               "moescope-server");
  AddFlags(app, line.config, raw);
  const auto file = std::make_shared<FlagFile>(app);
  app.config_formatter(file);
  app.allow_config_extras(CLI::config_extras_mode::error);
  const auto say = [&](absl::string_view message, absl::string_view more) {
    const std::string origin = file->Origin(message);
    err << "moescope-server: " << std::string(message)
        << (origin.empty() ? "" : absl::StrCat(" (", origin, ")"))
        << std::string(more) << "\n";
    line.exit_status = kWrongUsage;
  };
  try {
    app.parse(argc, argv);
    // Not CLI11's own check, which comes before that of unknown flags.
    if (line.config.service.model_root.empty()) {
      throw CLI::RequiredError("--model_root");
    }
  } catch (const CLI::Success& asked) {
    line.exit_status = app.exit(asked, out, err);
    return line;
  } catch (const CLI::ParseError& error) {
    say(error.what(),
        absl::StrCat("\nflags: ", FlagNames(app), "\n--help says more"));
    return line;
  }
  const absl::Status status = Understand(raw, line.config);
  if (!status.ok()) {
    say(status.message(), "");
  }
  return line;
}

absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text) {
  const std::size_t colon = text.find_last_of(':');
  ListenAddress address;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(text.substr(colon + 1), &address.port) ||
      address.port < 0 || address.port > 65535) {
    return InvalidField("address", absl::StrCat("\"", text,
                                                "\" is not HOST:PORT"));
  }
  absl::string_view host = text.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[") && !absl::ConsumeSuffix(&host, "]")) {
    return InvalidField("address", absl::StrCat("\"", text,
                                                "\" lacks a \"]\""));
  }
  address.host = std::string(host);
  return address;
}

bool IsLoopback(absl::string_view host) {
  return host == "localhost" || host == "::1" ||
         (absl::StartsWith(host, "127.") &&
          host.find_first_not_of("0123456789.") == absl::string_view::npos);
}

absl::StatusOr<MemoryBudget> ParseMemoryBudget(absl::string_view text) {
  MemoryBudget budget;
  absl::string_view number = text;
  if (!absl::ConsumeSuffix(&number, "%")) {
    MOESCOPE_ASSIGN_OR_RETURN(budget.bytes, ParseByteSize(text));
    // No model fits less: a share is meant that lacks its sign.
    if (budget.bytes < kLeastBudgetBytes) {
      return InvalidField("memory_budget",
                          absl::StrCat("\"", text, "\" is below 1MiB"));
    }
    return budget;
  }
  double percent = 0;
  if (!absl::SimpleAtod(number, &percent) || !(percent >= 1 && percent <= 100)) {
    return InvalidField("memory_budget", absl::StrCat("\"", text,
                                                      "\" is not a share from "
                                                      "1% to 100%"));
  }
  budget.share = percent / 100;
  return budget;
}

}  // namespace moescope
