#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
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
  /// Reserved for as long as it is in the list: its weights, as estimated.
  std::int64_t bytes = 0;
  std::shared_ptr<const model::Checkpoint> checkpoint;
  std::shared_ptr<CancellationToken> token;

  ModelState state = ModelState::kLoading;
  /// Its files have changed: nobody new gets it, and it goes with its last pin.
  bool retired = false;
  int pins = 0;
  /// Callers that wait for the load.
  int waiters = 0;
  /// Reserved by `pins` and `waiters` for their own work.
  std::int64_t workspace_bytes = 0;
  absl::Time loaded_at;
  absl::Time last_used;
  Progress progress;
  std::shared_ptr<const model::Model> model;
  /// Why the load failed; the state is then kUnloaded.
  absl::Status failure;
};

using ResidentPtr = std::shared_ptr<Resident>;

/// What a caller wants reserved, all of it or nothing.
struct Claim {
  /// Empty: no model, workspace alone.
  std::string name;
  std::shared_ptr<const model::Checkpoint> checkpoint;
  model::MemoryEstimate estimate;
  std::int64_t workspace_bytes = 0;
  /// Of workspace alone: what it takes on the device beside that, where the host
  /// has a budget of its own.
  std::int64_t device_bytes = 0;
  /// Whether to wait for memory that others hold only for now.
  bool waits = true;
};

/// What came of trying to serve a claim.
struct Attempt {
  /// Why it is refused.
  absl::Status refusal;
  /// Nothing is reserved; to be tried again when something has changed.
  bool again = false;
  /// The claim's model, which counts the caller as a waiter.
  ResidentPtr resident;
  /// For the caller to free, whatever came of it.
  std::vector<ResidentPtr> victims;
};

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
  /// Reserved without a model: on the host where that has a budget of its own,
  /// and then on the device.
  std::int64_t free_standing_bytes ABSL_GUARDED_BY(mutex) = 0;
  std::int64_t free_standing_device_bytes ABSL_GUARDED_BY(mutex) = 0;
  /// Claims that wait, oldest first: on the device, and on the host where that
  /// has a budget of its own; some on both. A later one does not overtake, or
  /// small ones could keep a large one waiting for ever. Nobody holds anything
  /// while in here.
  std::deque<std::uint64_t> device_queue ABSL_GUARDED_BY(mutex);
  std::deque<std::uint64_t> host_queue ABSL_GUARDED_BY(mutex);
  std::uint64_t last_ticket ABSL_GUARDED_BY(mutex) = 0;
  RegistryStats stats ABSL_GUARDED_BY(mutex);

  absl::StatusOr<std::shared_ptr<const model::Checkpoint>> OpenCheckpoint(
      const model::ModelFolder& folder) ABSL_LOCKS_EXCLUDED(mutex);

  /// What it takes to have the model; no workspace yet.
  absl::StatusOr<internal::Claim> ClaimOf(absl::string_view name)
      ABSL_LOCKS_EXCLUDED(mutex);

  /// Workspace alone, so much on the host and on the device.
  internal::Claim ClaimOf(std::int64_t bytes, std::int64_t device_bytes) const;

  /// The one that new callers get: loading or ready; nullptr when there is
  /// none.
  ResidentPtr Find(absl::string_view name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  ModelStatus StatusOf(const std::string& name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  /// Whether what has no model lies in a budget of its own.
  bool HasHostBudget() const { return options.host_budget_bytes > 0; }
  /// Where a claim takes memory.
  bool TakesHost(const internal::Claim& claim) const {
    return claim.name.empty() && HasHostBudget();
  }
  bool TakesDevice(const internal::Claim& claim) const {
    return !TakesHost(claim) || claim.device_bytes > 0;
  }
  /// For `needed_bytes` on the device; `kept` is not evicted for it.
  EvictionPlan Plan(std::int64_t needed_bytes,
                    const internal::Resident* kept = nullptr) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  /// The same for a claim whose model is `resident` (nullptr: it has none, or
  /// it must be loaded).
  EvictionPlan PlanFor(const internal::Claim& claim,
                       const ResidentPtr& resident) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  /// Why a claim that `plan` does not fit can't be served: MODEL_TOO_LARGE or
  /// WORKSPACE_TOO_LARGE. OK when it only has to wait.
  absl::Status Refusal(const internal::Claim& claim,
                       const ResidentPtr& resident, EvictionPlan plan) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  /// `reason` of the metrics: "memory", "request", "changed".
  void CountEviction(absl::string_view reason) const;

  /// Reserves what `claim` asks for, waiting for it if need be, and returns its
  /// model, which is there or being loaded and counts the caller as a waiter;
  /// nullptr for workspace alone.
  absl::StatusOr<ResidentPtr> Admit(const internal::Claim& claim,
                                    const RunContext& context)
      ABSL_LOCKS_EXCLUDED(mutex);
  internal::Attempt Try(const internal::Claim& claim, std::uint64_t ticket)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  /// `resident`, or nullptr when its files have changed: then nobody new gets
  /// it, and it goes into `victims` when nobody uses it.
  ResidentPtr RetireIfChanged(const internal::Claim& claim,
                              ResidentPtr resident,
                              std::vector<ResidentPtr>& victims)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  std::vector<ResidentPtr> Evict(const EvictionPlan& plan)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  /// Waits until what is being unloaded is gone.
  void AwaitFreed() ABSL_LOCKS_EXCLUDED(mutex);
  /// Starts a load, whose memory is the caller's to have reserved.
  ResidentPtr StartLoad(const internal::Claim& claim)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  /// The body of a load's thread.
  void RunLoad(const ResidentPtr& resident) ABSL_LOCKS_EXCLUDED(mutex);
  void FinishLoad(const ResidentPtr& resident,
                  absl::StatusOr<std::shared_ptr<const model::Model>> loaded,
                  absl::Time started) ABSL_LOCKS_EXCLUDED(mutex);
  void JoinFinishedLoaders() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  /// Whether `resident` is retired and nobody needs it any more.
  static bool IsLeftover(const internal::Resident& resident);
  /// Frees residents whose state is kUnloading and takes them off the list.
  void Free(const std::vector<ResidentPtr>& victims) ABSL_LOCKS_EXCLUDED(mutex);
  void Unpin(const ResidentPtr& resident, std::int64_t workspace_bytes)
      ABSL_LOCKS_EXCLUDED(mutex);
  void GiveBack(std::int64_t free_standing, std::int64_t on_device)
      ABSL_LOCKS_EXCLUDED(mutex);

  /// Waits until `resident`, whose `waiters` counts the caller, is ready, and
  /// turns the caller into a pin; gives `workspace_bytes` back on an error.
  absl::Status WaitUntilReady(const ResidentPtr& resident,
                              std::int64_t workspace_bytes,
                              const RunContext& context)
      ABSL_LOCKS_EXCLUDED(mutex);
};

class ModelHandle::Pin {
 public:
  /// `resident` has been pinned, and `workspace_bytes` are reserved, for this
  /// object.
  Pin(std::shared_ptr<ModelRegistry::State> state,
      internal::ResidentPtr resident, std::int64_t workspace_bytes,
      std::shared_ptr<const model::Model> model)
      : state_(std::move(state)),
        resident_(std::move(resident)),
        workspace_bytes_(workspace_bytes),
        model_(std::move(model)) {}
  ~Pin() {
    // Before the pin goes, so that the registry's reference is the last one.
    model_.reset();
    state_->Unpin(resident_, workspace_bytes_);
  }
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;
  const model::Model& model() const { return *model_; }

 private:
  const std::shared_ptr<ModelRegistry::State> state_;
  const internal::ResidentPtr resident_;
  const std::int64_t workspace_bytes_;
  std::shared_ptr<const model::Model> model_;
};

class WorkspaceReservation::Hold {
 public:
  /// The claim's bytes are reserved for this object.
  Hold(std::shared_ptr<ModelRegistry::State> state,
       const internal::Claim& claim)
      : state_(std::move(state)),
        bytes_(claim.workspace_bytes),
        device_bytes_(claim.device_bytes) {}
  ~Hold() { state_->GiveBack(bytes_, device_bytes_); }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

 private:
  const std::shared_ptr<ModelRegistry::State> state_;
  const std::int64_t bytes_;
  const std::int64_t device_bytes_;
};

}  // namespace moescope
