#include "server/registry/registry_state_internal.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/error.h"
#include "moescope/base/log.h"
#include "moescope/base/status_macros.h"
#include "moescope/base/thread_pool.h"
#include "moescope/telemetry/metrics.h"

namespace moescope {
namespace {

absl::Status TooLarge(const std::string& name,
                      const ModelRegistry::Options& options,
                      std::int64_t needed_bytes, const EvictionPlan& plan) {
  ErrorDetails details;
  details.reason = "MODEL_TOO_LARGE";
  details.metadata = {
      {"needed_bytes", absl::StrCat(needed_bytes)},
      {"available_bytes", absl::StrCat(plan.available_bytes)},
      {"budget_bytes", absl::StrCat(options.memory_budget_bytes)},
      {"would_have_to_go", absl::StrJoin(plan.would_have_to_go, ",")}};
  const std::string rest =
      plan.would_have_to_go.empty()
          ? std::string("more than the whole budget")
          : absl::StrCat("these are in use or too young to go: ",
                         absl::StrJoin(plan.would_have_to_go, ", "));
  return MakeError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat("model \"", name, "\" needs ", needed_bytes, " bytes on ",
                   options.device, "; ", plan.available_bytes, " of ",
                   options.memory_budget_bytes, " are free; ", rest),
      details);
}

void ReportLoad(const internal::Resident& resident,
                const absl::StatusOr<std::shared_ptr<const model::Model>>& loaded,
                absl::Duration took, Metrics* metrics) {
  if (metrics == nullptr) {
    return;
  }
  if (!loaded.ok()) {
    if (!resident.token->cancelled()) {
      const std::string reason = GetErrorDetails(loaded.status()).reason;
      metrics->ModelLoadFailed(
          reason.empty() ? absl::StatusCodeToString(loaded.status().code())
                         : reason);
    }
    return;
  }
  metrics->ModelLoadSeconds("total", took);
  const std::int64_t estimated = resident.estimate.weight_bytes;
  if (estimated > 0) {
    metrics->SetModelEstimateError(
        static_cast<double>((*loaded)->weight_bytes() - estimated) /
        static_cast<double>(estimated));
  }
}

}  // namespace

EvictionPlan ModelRegistry::State::Plan(std::int64_t needed_bytes) const {
  std::vector<ResidentModel> snapshot;
  for (const ResidentPtr& resident : residents) {
    // What is being freed is as good as gone: a load waits for it.
    if (resident->state == ModelState::kUnloading) {
      continue;
    }
    const bool loading = resident->state == ModelState::kLoading;
    snapshot.push_back(
        {resident->name, resident->bytes,
         resident->pins + resident->waiters + (loading ? 1 : 0),
         resident->loaded_at, resident->last_used});
  }
  return PlanEviction(snapshot, needed_bytes, options.memory_budget_bytes,
                      options.minimum_residence, clock.Now());
}

absl::Status ModelRegistry::State::CheckPlan(const std::string& name,
                                             std::int64_t needed_bytes,
                                             const EvictionPlan& plan) const {
  return plan.fits ? absl::OkStatus()
                   : TooLarge(name, options, needed_bytes, plan);
}

void ModelRegistry::State::CountEviction(absl::string_view reason) const {
  if (options.metrics != nullptr) {
    options.metrics->ModelEvicted(reason);
  }
}

absl::StatusOr<internal::ResidentPtr> ModelRegistry::State::StartLoad(
    const std::string& name,
    std::shared_ptr<const model::Checkpoint> checkpoint,
    const model::MemoryEstimate& estimate) {
  const std::int64_t needed_bytes =
      estimate.weight_bytes + estimate.workspace_bytes;
  const EvictionPlan plan = Plan(needed_bytes);
  if (absl::Status room = CheckPlan(name, needed_bytes, plan); !room.ok()) {
    ++stats.refused_too_large;
    if (options.metrics != nullptr) {
      options.metrics->ModelLoadFailed("MODEL_TOO_LARGE");
    }
    return room;
  }
  std::vector<ResidentPtr> victims;
  for (const ResidentPtr& resident : residents) {
    if (resident->state == ModelState::kReady && resident->pins == 0 &&
        resident->waiters == 0 &&
        std::count(plan.evict.begin(), plan.evict.end(), resident->name) > 0) {
      resident->state = ModelState::kUnloading;
      ++stats.evictions_memory;
      CountEviction("memory");
      victims.push_back(resident);
    }
  }
  auto resident = std::make_shared<internal::Resident>();
  resident->name = name;
  resident->estimate = estimate;
  resident->bytes = needed_bytes;
  resident->checkpoint = std::move(checkpoint);
  resident->token = std::make_shared<CancellationToken>();
  resident->loaded_at = clock.Now();
  resident->last_used = resident->loaded_at;
  residents.push_back(resident);
  JoinFinishedLoaders();
  auto done = std::make_shared<std::atomic<bool>>(false);
  loaders.push_back({done, std::thread([this, resident, victims, done] {
                       RunLoad(resident, victims);
                       done->store(true, std::memory_order_release);
                     })});
  return resident;
}

void ModelRegistry::State::RunLoad(const ResidentPtr& resident,
                                   const std::vector<ResidentPtr>& victims) {
  Free(victims);
  {
    // Others may be freeing what this reservation counts on.
    const MutexLock lock(mutex);
    while (std::any_of(residents.begin(), residents.end(),
                       [](const ResidentPtr& other) {
                         return other->state == ModelState::kUnloading;
                       })) {
      changed.Wait(mutex);
    }
  }
  const absl::Time started = clock.Now();
  RunContext context(resident->token);
  context.set_progress_function([this, &resident](const Progress& progress) {
    const MutexLock lock(mutex);
    resident->progress = progress;
    changed.NotifyAll();
  });
  ThreadPool pool(std::max(1, options.threads));
  FinishLoad(resident, source->Load(resident->checkpoint, pool, context),
             started);
}

void ModelRegistry::State::FinishLoad(
    const ResidentPtr& resident,
    absl::StatusOr<std::shared_ptr<const model::Model>> loaded,
    absl::Time started) {
  const absl::Time now = clock.Now();
  // Before anybody can see that the load has ended.
  ReportLoad(*resident, loaded, now - started, options.metrics);
  bool leftover = false;
  {
    const MutexLock lock(mutex);
    Memory& memory = memories[resident->name];
    if (loaded.ok()) {
      ++stats.loads;
      memory.error = absl::OkStatus();
      memory.load_time = now - started;
      resident->model = *std::move(loaded);
      resident->state = ModelState::kReady;
      resident->loaded_at = now;
      resident->last_used = now;
      leftover = IsLeftover(*resident);
      if (leftover) {
        resident->state = ModelState::kUnloading;
      }
    } else {
      resident->state = ModelState::kUnloaded;
      resident->failure = loaded.status();
      residents.erase(
          std::find(residents.begin(), residents.end(), resident));
      if (resident->token->cancelled()) {
        ++stats.loads_cancelled;
      } else {
        ++stats.load_failures;
        memory.error = loaded.status();
      }
    }
    changed.NotifyAll();
  }
  if (leftover) {
    Free({resident});
  }
  Log(loaded.ok() ? LogLevel::kInfo : LogLevel::kWarning, "model_load_ended",
      {{"model", resident->name},
       {"code", absl::StatusCodeToString(loaded.status().code())},
       {"seconds", absl::ToDoubleSeconds(now - started)}});
}

void ModelRegistry::State::JoinFinishedLoaders() {
  for (auto loader = loaders.begin(); loader != loaders.end();) {
    if (loader->done->load(std::memory_order_acquire)) {
      loader->thread.join();
      loader = loaders.erase(loader);
    } else {
      ++loader;
    }
  }
}

bool ModelRegistry::State::IsLeftover(const internal::Resident& resident) {
  return resident.retired && resident.pins == 0 && resident.waiters == 0 &&
         resident.state == ModelState::kReady;
}

void ModelRegistry::State::Free(const std::vector<ResidentPtr>& victims) {
  for (const ResidentPtr& victim : victims) {
    std::shared_ptr<const model::Model> model;
    {
      const MutexLock lock(mutex);
      model.swap(victim->model);
    }
    model.reset();  // Takes its time, so not under the lock.
    const MutexLock lock(mutex);
    residents.erase(std::find(residents.begin(), residents.end(), victim));
    Memory& memory = memories[victim->name];
    memory.last_used = std::max(memory.last_used, victim->last_used);
    changed.NotifyAll();
  }
}

void ModelRegistry::State::Unpin(const ResidentPtr& resident) {
  {
    const MutexLock lock(mutex);
    --resident->pins;
    resident->last_used = clock.Now();
    changed.NotifyAll();
    if (!IsLeftover(*resident)) {
      return;
    }
    resident->state = ModelState::kUnloading;
  }
  Free({resident});
}

absl::Status ModelRegistry::State::WaitUntilReady(const ResidentPtr& resident,
                                                  const RunContext& context) {
  for (;;) {
    Progress progress;
    {
      const MutexLock lock(mutex);
      if (resident->state == ModelState::kReady) {
        --resident->waiters;
        ++resident->pins;
        return absl::OkStatus();
      }
      if (resident->state == ModelState::kUnloaded) {
        --resident->waiters;
        return resident->failure;
      }
      const absl::Status wanted = context.Check();
      if (!wanted.ok()) {
        if (--resident->waiters == 0) {
          resident->token->Cancel(
              absl::CancelledError("nobody waits for this model any more"));
        }
        return wanted;
      }
      changed.WaitFor(mutex, internal::kLookInterval);
      progress = resident->progress;
    }
    if (!progress.stage.empty() || progress.total > 0) {
      context.ReportProgress(progress);
    }
  }
}

}  // namespace moescope
