#include "moescope/service/service.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "moescope/analysis/catalogue.h"
#include "moescope/base/error.h"
#include "moescope/base/file.h"
#include "moescope/base/log.h"
#include "moescope/base/quote_name.h"
#include "moescope/base/status_macros.h"
#include "moescope/base/uuid.h"
#include "moescope/jobs/sqlite_job_store.h"
#include "moescope/model/compute_info.h"
#include "moescope/model/model.h"
#include "moescope/model/product_choice.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

// What is wrong with a folder that an option names, by option and path.
absl::Status AboutFolder(absl::string_view option, const std::string& path,
                         const absl::Status& status) {
  if (!GetErrorDetails(status).fields.empty()) {
    return status;
  }
  absl::string_view what = status.message();
  absl::ConsumePrefix(&what, absl::StrCat(path, ": "));
  return FieldError(status.code(), option,
                    absl::StrCat(QuoteName(path), ": ", what),
                    "FOLDER_NOT_USABLE");
}

// Both must be there before anything is kept or read.
absl::Status OpenFolders(Service::State& state) {
  const ServiceOptions& options = state.options;
  const int root = ::open(options.model_root.c_str(),
                          O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) {
    return AboutFolder("model_root", options.model_root,
                       ErrnoStatus(errno, "can't be opened as a folder"));
  }
  ::close(root);
  absl::Status made = MakeDirectories(options.data_dir);
  if (made.ok()) {
    auto lock = DataDirLock::Take(options.data_dir);
    made = lock.status();
    if (lock.ok()) {
      state.lock = *std::move(lock);
    }
  }
  return made.ok() ? made : AboutFolder("data_dir", options.data_dir, made);
}

absl::Status OpenStores(Service::State& state) {
  const ServiceOptions& options = state.options;
  SqliteJobStoreOptions store;
  store.path = absl::StrCat(options.data_dir, "/jobs.sqlite");
  store.limits.max_queued_jobs = options.max_queued_jobs;
  store.notifier = &state.notifier;
  store.metrics = &state.metrics;
  MOESCOPE_ASSIGN_OR_RETURN(state.store, OpenSqliteJobStore(std::move(store)));

  ResultStore::Options results;
  results.dir = absl::StrCat(options.data_dir, "/results");
  results.memory_bytes = options.cache_memory_bytes;
  results.disk_bytes = options.cache_disk_bytes;
  MOESCOPE_ASSIGN_OR_RETURN(
      state.results, ResultStore::Open(std::move(results), state.clock));
  return absl::OkStatus();
}

absl::Status OpenRegistry(Service::State& state) {
  const ServiceOptions& options = state.options;
  MOESCOPE_ASSIGN_OR_RETURN(state.device,
                            model::ResolveDevice(options.device));
  MOESCOPE_RETURN_IF_ERROR(model::ApplyProductChoice(options.data_dir));
  state.numerics_class = model::NumericsClass(state.device);
  MOESCOPE_ASSIGN_OR_RETURN(
      state.memory_budget_bytes,
      ChooseMemoryBudget(options, state.device,
                         model::TotalMemoryBytes(state.device)));
  ModelRegistry::Options registry;
  registry.device = state.device;
  registry.memory_budget_bytes = state.memory_budget_bytes;
  if (state.device != kHostDevice) {
    // What reads weights alone works on the host.
    const std::string host(kHostDevice);
    MOESCOPE_ASSIGN_OR_RETURN(
        registry.host_budget_bytes,
        ChooseMemoryBudget(ServiceOptions(), host,
                           model::TotalMemoryBytes(host)));
  }
  registry.threads = state.pool->num_threads();
  registry.metrics = &state.metrics;
  state.registry = std::make_unique<ModelRegistry>(
      registry, MakeFolderModelSource(options.model_root, state.device,
                                      state.identities.get()),
      state.clock);
  state.metrics.SetDeviceBudgetBytes(state.device, state.memory_budget_bytes);
  // Whatever else is wrong with the model root is said now, not to a client.
  const absl::Status listed = state.registry->List().status();
  return listed.ok() ? listed
                     : AboutFolder("model_root", options.model_root, listed);
}

absl::Status StartWorkers(Service::State& state) {
  WorkerPoolOptions options;
  options.owner = NewUuidV7(state.clock.Now());
  options.lanes[std::string(kComputeLane)] =
      std::max(1, state.options.workers);
  options.lanes[std::string(kLoadLane)] = 1;
  options.lanes[std::string(kVerifyLane)] = 1;
  options.numerics_classes = {state.numerics_class};
  for (const spec::AnalysisInfo& info : analysis::Catalogue()) {
    options.analyses.push_back({info.name, info.version});
  }
  options.analyses.push_back({std::string(kLoadModelJob), 1});
  options.analyses.push_back({std::string(kVerifyModelJob), 1});
  options.warm = [&state] { return state.registry->ReadyModels(); };
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::int64_t requeued,
      state.store->RequeueOwnedByOthers(options.owner, state.clock.Now()));
  if (requeued > 0) {
    Log(LogLevel::kInfo, "jobs_recovered", {{"executions", requeued}});
  }
  ClaimRequest own;
  own.lanes = {std::string(kComputeLane), std::string(kLoadLane)};
  own.numerics_classes = options.numerics_classes;
  own.analyses = options.analyses;
  MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t taken_over,
                            TakeOverQueue(state, own));
  if (taken_over > 0) {
    Log(LogLevel::kInfo, "jobs_rekeyed", {{"executions", taken_over}});
  }
  state.executor = MakeExecutor(state);
  state.workers = std::make_unique<WorkerPool>(
      std::move(options), *state.store, *state.executor, state.notifier,
      state.clock, state.metrics);
  state.workers->Start();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::int64_t> ChooseMemoryBudget(
    const ServiceOptions& options, const std::string& device,
    std::optional<std::int64_t> total_bytes) {
  if (options.memory_budget_bytes > 0) {
    return options.memory_budget_bytes;
  }
  if (!total_bytes.has_value()) {
    return InvalidField(
        "memory_budget",
        absl::StrCat("how much memory ", device,
                     " has can't be told here: say --memory_budget in bytes, "
                     "as in 70GiB"));
  }
  return static_cast<std::int64_t>(static_cast<double>(*total_bytes) *
                                   options.memory_budget_share);
}

absl::StatusOr<std::unique_ptr<DataDirLock>> DataDirLock::Take(
    const std::string& data_dir) {
  const std::string path = absl::StrCat(data_dir, "/lock");
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) {
    return ErrnoStatus(errno, path);
  }
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd);
    return FieldError(absl::StatusCode::kFailedPrecondition, "data_dir",
                      absl::StrCat("\"", data_dir,
                                   "\" is in use by another server"),
                      "DATA_DIR_IN_USE");
  }
  return std::unique_ptr<DataDirLock>(new DataDirLock(fd));
}

DataDirLock::~DataDirLock() { ::close(fd_); }

Service::State::~State() {
  maintenance_stop.Cancel(absl::CancelledError("the server stops"));
  if (maintenance.joinable()) {
    maintenance.join();
  }
  if (workers != nullptr) {
    workers->Stop();
  }
}

absl::StatusOr<std::unique_ptr<Service>> Service::Create(ServiceOptions options,
                                                         Clock& clock,
                                                         Metrics& metrics) {
  if (options.model_root.empty()) {
    return InvalidField("model_root", "is empty: name the folder of models");
  }
  if (options.data_dir.empty()) {
    return InvalidField("data_dir", "is empty: name a folder to keep jobs in");
  }
  auto state = std::make_unique<State>(std::move(options), clock, metrics);
  MOESCOPE_RETURN_IF_ERROR(OpenFolders(*state));
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  state->pool = std::make_unique<ThreadPool>(
      state->options.threads > 0 ? state->options.threads : std::max(1, cores));
  absl::StatusOr<std::unique_ptr<model::IdentityStore>> identities =
      model::IdentityStore::Open(
          absl::StrCat(state->options.data_dir, "/identities"), state->clock);
  absl::Status kept = identities.status();
  if (kept.ok()) {
    state->identities = *std::move(identities);
    kept = OpenStores(*state);
  }
  if (!kept.ok()) {
    return AboutFolder("data_dir", state->options.data_dir, kept);
  }
  MOESCOPE_RETURN_IF_ERROR(OpenRegistry(*state));
  MOESCOPE_RETURN_IF_ERROR(StartWorkers(*state));
  state->maintenance =
      std::thread([raw = state.get()] { RunMaintenance(*raw); });
  return std::unique_ptr<Service>(new Service(std::move(state)));
}

Service::Service(std::unique_ptr<State> state) : state_(std::move(state)) {}

Service::~Service() = default;

void Service::Drain(absl::Duration grace) {
  state_->draining.store(true);
  state_->metrics.SetDraining(true);
  state_->workers->Drain(grace);
  state_->notifier.Notify();
}

}  // namespace moescope
