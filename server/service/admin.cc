// The calls of Service about the server itself.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"

#include "moescope/analysis/catalogue.h"
#include "moescope/base/blas_core.h"
#include "moescope/base/machine.h"
#include "moescope/base/status_macros.h"
#include "moescope/model/compute_info.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

// Measured once, when first asked for.
absl::StatusOr<double> GemmGflops(Service::State& state) {
  const MutexLock lock(state.gemm_mutex);
  if (!state.gemm_gflops.has_value()) {
    MOESCOPE_ASSIGN_OR_RETURN(state.gemm_gflops, model::MeasureGemmGflops());
  }
  return *state.gemm_gflops;
}

absl::string_view MetricState(ModelState state) {
  switch (state) {
    case ModelState::kUnloaded:
      return "available";
    case ModelState::kLoading:
      return "loading";
    case ModelState::kReady:
      return "ready";
    case ModelState::kUnloading:
      return "unloading";
    case ModelState::kFailed:
      return "failed";
  }
  return "failed";
}

void PublishDeviceMemory(const Service::State& state) {
  const std::optional<model::DeviceMemory> memory =
      model::MeasureDeviceMemory(state.device);
  if (!memory.has_value()) {
    return;
  }
  const auto set = [&state](absl::string_view kind, std::int64_t bytes) {
    state.metrics.SetDeviceMemoryBytes(state.device, kind, bytes);
  };
  set("allocated", memory->allocated_bytes);
  set("reserved", memory->reserved_bytes);
  set("free", memory->free_bytes);
  set("other", memory->other_bytes);
}

DeviceView Describe(const std::string& device, const RegistryStats& registry) {
  DeviceView view;
  view.name = device;
  view.budget_bytes = registry.budget_bytes;
  view.reserved_bytes = registry.reserved_bytes;
  if (device == "cpu") {
    const Machine machine = DescribeMachine();
    view.description = machine.processor;
    view.total_bytes = machine.memory_bytes;
    view.free_bytes = machine.free_memory_bytes;
  } else if (const auto memory = model::MeasureDeviceMemory(device);
             memory.has_value()) {
    view.total_bytes = memory->allocated_bytes + memory->reserved_bytes +
                       memory->free_bytes + memory->other_bytes;
    view.free_bytes = memory->free_bytes;
  }
  return view;
}

}  // namespace

absl::StatusOr<ServerView> Service::GetServerInfo() {
  const ServiceOptions& options = state_->options;
  const RegistryStats registry = state_->registry->stats();
  const LoadedBlas blas = model::DescribeBlas();
  const model::ComputeInfo compute = model::GetComputeInfo();
  ServerView view;
  view.versions["moescope"] = options.version;
  view.versions["torch"] = compute.torch_version;
  view.versions["absl"] = absl::StrCat(ABSL_LTS_RELEASE_VERSION);
  view.devices.push_back(Describe(state_->device, registry));
  view.limits["max_tokens"] = options.max_tokens;
  view.limits["max_queued_jobs"] = options.max_queued_jobs;
  const JobStoreLimits jobs;
  view.limits["max_queued_seconds"] = absl::ToInt64Seconds(jobs.max_queued_work);
  view.limits["max_attempts"] = jobs.max_attempts;
  view.limits["lost_caller_grace_seconds"] = absl::ToInt64Seconds(kCallerGrace);
  view.limits["memory_budget_bytes"] = registry.budget_bytes;
  view.limits["cache_memory_bytes"] = options.cache_memory_bytes;
  view.limits["cache_disk_bytes"] = options.cache_disk_bytes;
  view.features = {"content_identity", "jobs", "result_cache"};
  for (const spec::AnalysisInfo& info : analysis::Catalogue()) {
    view.features.push_back(info.name);
  }
  std::sort(view.features.begin(), view.features.end());
  view.numerics_class = state_->numerics_class;
  view.instruction_set = compute.instruction_set;
  view.blas_library = blas.library;
  view.blas_core = blas.core;
  view.fitting_blas_core = FittingOpenBlasCore(DetectCpuFeatures());
  // Only OpenBLAS has a core that can be set, and set wrongly.
  view.blas_core_fits =
      blas.core == "automatic" || blas.core == view.fitting_blas_core;
  MOESCOPE_ASSIGN_OR_RETURN(view.gemm_gflops, GemmGflops(*state_));
  view.threads = state_->pool->num_threads();
  view.start_time = state_->start_time;
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<ModelStatus> models,
                            state_->registry->List());
  view.num_models = static_cast<std::int64_t>(models.size());
  return view;
}

CacheView Service::GetCacheStats() {
  const ResultStoreStats stats = state_->results->stats();
  CacheView view;
  view.memory_hits = state_->cache_memory_hits.load();
  view.disk_hits = state_->cache_disk_hits.load();
  view.misses = state_->cache_misses.load();
  view.joins = state_->cache_joins.load();
  view.saved = absl::Microseconds(state_->cache_saved_us.load());
  view.corrupt = stats.corrupt;
  view.memory_evictions = stats.memory_evictions;
  view.disk_evictions = stats.disk_evictions;
  view.memory_bytes = stats.memory_bytes;
  view.memory_entries = stats.memory_entries;
  view.memory_limit_bytes = state_->options.cache_memory_bytes;
  view.disk_bytes = stats.disk_bytes;
  view.disk_entries = stats.disk_entries;
  view.disk_limit_bytes = state_->options.cache_disk_bytes;
  return view;
}

void Service::PublishMetrics() {
  const MutexLock lock(state_->publish_mutex);
  std::map<ModelState, std::int64_t> counts;
  for (const ModelState state :
       {ModelState::kUnloaded, ModelState::kLoading, ModelState::kReady,
        ModelState::kUnloading, ModelState::kFailed}) {
    counts[state] = 0;
  }
  const auto models = state_->registry->List();
  if (models.ok()) {
    for (const ModelStatus& status : *models) {
      ++counts[status.state];
    }
  }
  for (const auto& [state, count] : counts) {
    state_->metrics.SetModelsInState(MetricState(state), count);
  }
  const RegistryStats registry = state_->registry->stats();
  state_->metrics.SetModelResidentBytes(state_->device, "weights",
                                        registry.weight_bytes);
  state_->metrics.SetModelResidentBytes(state_->device, "workspace",
                                        registry.workspace_bytes);
  if (state_->device != kHostDevice) {
    state_->metrics.SetModelResidentBytes(kHostDevice, "workspace",
                                          registry.host_workspace_bytes);
  }
  PublishDeviceMemory(*state_);
  const ResultStoreStats results = state_->results->stats();
  state_->metrics.SetCacheBytes("memory", results.memory_bytes);
  state_->metrics.SetCacheBytes("disk", results.disk_bytes);
  for (std::int64_t& known = state_->published_evictions;
       known < results.memory_evictions; ++known) {
    state_->metrics.CacheEvicted("memory");
  }
}

}  // namespace moescope
