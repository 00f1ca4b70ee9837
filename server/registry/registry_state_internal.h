#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "moescope/base/clock.h"
#include "moescope/base/mutex.h"
#include "moescope/base/run_context.h"
#include "moescope/registry/eviction_policy.h"
#include "moescope/registry/model_registry.h"

namespace moescope {
namespace internal {

/// How soon a waiter sees that its caller has gone; a token can't wake it.
inline constexpr absl::Duration kLookInterval = absl::Milliseconds(20);

/// A model that holds memory: from its reservation until its weights are gone.
/// Guarded by the mutex of the registry's state, but for what is constant.
struct Resident {
  // Constant once it is in the list.
  std::string name;
  model::MemoryEstimate estimate;
  /// Reserved: all of the estimate.
  std::int64_t bytes = 0;
  std::shared_ptr<const model::Checkpoint> checkpoint;
  std::shared_ptr<CancellationToken> token;

  ModelState state = ModelState::kLoading;
  /// Its files have changed: nobody new gets it, and it goes with its last pin.
  bool retired = false;
  int pins = 0;
  /// Callers that wait for the load.
  int waiters = 0;
  absl::Time loaded_at;
  absl::Time last_used;
  Progress progress;
  std::shared_ptr<const model::Model> model;
  /// Why the load failed; the state is then kUnloaded.
  absl::Status failure;
};

using ResidentPtr = std::shared_ptr<Resident>;

}  // namespace internal

struct ModelRegistry::State {
  using ResidentPtr = internal::ResidentPtr;

  /// What is remembered of a model that is not resident.
  struct Memory {
    absl::Status error;
    absl::Duration load_time;
    absl::Time last_used = absl::InfinitePast();
  };
  struct OpenedCheckpoint {
    std::string fingerprint;
    std::shared_ptr<const model::Checkpoint> checkpoint;
  };
  struct Loader {
    std::shared_ptr<std::atomic<bool>> done;
    std::thread thread;
  };

  State(Options options_in, std::unique_ptr<ModelSource> source_in,
        Clock& clock_in)
      : options(std::move(options_in)),
        source(std::move(source_in)),
        clock(clock_in) {}

  const Options options;
  const std::unique_ptr<ModelSource> source;
  Clock& clock;

  mutable Mutex mutex;
  /// Whatever of the residents changed.
  CondVar changed;
  std::vector<ResidentPtr> residents ABSL_GUARDED_BY(mutex);
  std::map<std::string, Memory> memories ABSL_GUARDED_BY(mutex);
  std::map<std::string, OpenedCheckpoint> checkpoints ABSL_GUARDED_BY(mutex);
  std::vector<Loader> loaders ABSL_GUARDED_BY(mutex);
  RegistryStats stats ABSL_GUARDED_BY(mutex);

  absl::StatusOr<std::shared_ptr<const model::Checkpoint>> OpenCheckpoint(
      const model::ModelFolder& folder) ABSL_LOCKS_EXCLUDED(mutex);

  /// The one that new callers get: loading or ready; nullptr when there is
  /// none.
  ResidentPtr Find(absl::string_view name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  ModelStatus StatusOf(const std::string& name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  EvictionPlan Plan(std::int64_t needed_bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  /// MODEL_TOO_LARGE when `plan` says so, else OK.
  absl::Status CheckPlan(const std::string& name, std::int64_t needed_bytes,
                         const EvictionPlan& plan) const;
  /// `reason` of the metrics: "memory", "request", "changed".
  void CountEviction(absl::string_view reason) const;

  /// The resident that a caller is to wait for, who is counted as a waiter: one
  /// that is there or a new load. One with old files goes into `outdated` when
  /// the caller is to free it.
  absl::StatusOr<ResidentPtr> Join(
      const std::string& name,
      const std::shared_ptr<const model::Checkpoint>& checkpoint,
      const model::MemoryEstimate& estimate, const RunContext& context,
      ResidentPtr& outdated) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  /// Reserves and starts a load, or says why not.
  absl::StatusOr<ResidentPtr> StartLoad(
      const std::string& name,
      std::shared_ptr<const model::Checkpoint> checkpoint,
      const model::MemoryEstimate& estimate) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  /// The body of a load's thread.
  void RunLoad(const ResidentPtr& resident,
               const std::vector<ResidentPtr>& victims)
      ABSL_LOCKS_EXCLUDED(mutex);
  void FinishLoad(const ResidentPtr& resident,
                  absl::StatusOr<std::shared_ptr<const model::Model>> loaded,
                  absl::Time started) ABSL_LOCKS_EXCLUDED(mutex);
  void JoinFinishedLoaders() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  /// Whether `resident` is retired and nobody needs it any more.
  static bool IsLeftover(const internal::Resident& resident);
  /// Frees residents whose state is kUnloading and takes them off the list.
  void Free(const std::vector<ResidentPtr>& victims) ABSL_LOCKS_EXCLUDED(mutex);
  void Unpin(const ResidentPtr& resident) ABSL_LOCKS_EXCLUDED(mutex);

  /// Waits until `resident`, whose `waiters` counts the caller, is ready.
  absl::Status WaitUntilReady(const ResidentPtr& resident,
                              const RunContext& context)
      ABSL_LOCKS_EXCLUDED(mutex);
};

class ModelHandle::Pin {
 public:
  /// `resident` has been pinned for this object.
  Pin(std::shared_ptr<ModelRegistry::State> state,
      internal::ResidentPtr resident,
      std::shared_ptr<const model::Model> model)
      : state_(std::move(state)),
        resident_(std::move(resident)),
        model_(std::move(model)) {}
  ~Pin() {
    // Before the pin goes, so that the registry's reference is the last one.
    model_.reset();
    state_->Unpin(resident_);
  }
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;
  const model::Model& model() const { return *model_; }

 private:
  const std::shared_ptr<ModelRegistry::State> state_;
  const internal::ResidentPtr resident_;
  std::shared_ptr<const model::Model> model_;
};

}  // namespace moescope
