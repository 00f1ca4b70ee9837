#include "server/registry/registry_state_internal.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/log.h"
#include "moescope/base/status_macros.h"
#include "moescope/base/thread_pool.h"
#include "moescope/telemetry/metrics.h"

namespace moescope {
namespace {

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

void ModelRegistry::State::CountEviction(absl::string_view reason) const {
  if (options.metrics != nullptr) {
    options.metrics->ModelEvicted(reason);
  }
}

internal::ResidentPtr ModelRegistry::State::StartLoad(
    const internal::Claim& claim) {
  auto resident = std::make_shared<internal::Resident>();
  resident->name = claim.name;
  resident->estimate = claim.estimate;
  resident->bytes = claim.estimate.weight_bytes;
  resident->checkpoint = claim.checkpoint;
  resident->token = std::make_shared<CancellationToken>();
  resident->loaded_at = clock.Now();
  resident->last_used = resident->loaded_at;
  residents.push_back(resident);
  JoinFinishedLoaders();
  auto done = std::make_shared<std::atomic<bool>>(false);
  loaders.push_back({done, std::thread([this, resident, done] {
                       RunLoad(resident);
                       done->store(true, std::memory_order_release);
                     })});
  return resident;
}

void ModelRegistry::State::RunLoad(const ResidentPtr& resident) {
  // The reservation counts on what others are freeing.
  AwaitFreed();
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

void ModelRegistry::State::Unpin(const ResidentPtr& resident,
                                 std::int64_t workspace_bytes) {
  {
    const MutexLock lock(mutex);
    --resident->pins;
    resident->workspace_bytes -= workspace_bytes;
    resident->last_used = clock.Now();
    changed.NotifyAll();
    if (!IsLeftover(*resident)) {
      return;
    }
    resident->state = ModelState::kUnloading;
  }
  Free({resident});
}

void ModelRegistry::State::GiveBack(std::int64_t free_standing,
                                    std::int64_t on_device) {
  const MutexLock lock(mutex);
  free_standing_bytes -= free_standing;
  free_standing_device_bytes -= on_device;
  changed.NotifyAll();
}

absl::Status ModelRegistry::State::WaitUntilReady(
    const ResidentPtr& resident, std::int64_t workspace_bytes,
    const RunContext& context) {
  const auto leave = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    resident->workspace_bytes -= workspace_bytes;
    changed.NotifyAll();
    return --resident->waiters;
  };
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
        leave();
        return resident->failure;
      }
      const absl::Status wanted = context.Check();
      if (!wanted.ok()) {
        if (leave() == 0) {
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
