#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "moescope/base/clock.h"
#include "moescope/base/run_context.h"
#include "moescope/model/checkpoint.h"
#include "moescope/model/model.h"
#include "moescope/registry/model_source.h"

namespace moescope {

class Metrics;
namespace internal {
struct Claim;
}  // namespace internal

enum class ModelState { kUnloaded, kLoading, kReady, kUnloading, kFailed };

/// "UNLOADED", "LOADING", …
absl::string_view ModelStateName(ModelState state);

/// One model as the registry knows it.
struct ModelStatus {
  std::string name;
  ModelState state = ModelState::kUnloaded;
  /// Why the last load failed; OK unless the state is kFailed.
  absl::Status error;
  /// Bytes reserved for its weights and for the workspace of those who use it;
  /// 0 unless resident.
  std::int64_t reserved_bytes = 0;
  /// Of these the weights'; estimated while they are loading.
  std::int64_t weight_bytes = 0;
  /// Handles that pin it.
  int pins = 0;
  /// Of the last load that succeeded.
  absl::Duration load_time;
  /// Infinite past when never used.
  absl::Time last_used = absl::InfinitePast();
  /// While loading.
  Progress progress;
};

/// What loading a model would take.
struct LoadEstimate {
  model::MemoryEstimate memory;
  /// Weights and the workspace of a pass over a block of the default size.
  std::int64_t needed_bytes = 0;
  std::int64_t available_bytes = 0;
  std::int64_t budget_bytes = 0;
  /// Whether Load would be admitted now (true when the model is resident).
  bool fits = false;
  std::vector<std::string> would_evict;
  /// When it does not fit: what would have to go and may not.
  std::vector<std::string> would_have_to_go;
};

/// Counters since the start, and sizes now.
struct RegistryStats {
  std::int64_t loads = 0;
  std::int64_t load_failures = 0;
  std::int64_t loads_cancelled = 0;
  std::int64_t loads_joined = 0;
  std::int64_t refused_too_large = 0;
  /// Evicted to make room.
  std::int64_t evictions_memory = 0;
  /// Unloaded on request.
  std::int64_t evictions_request = 0;
  /// Replaced because the files changed.
  std::int64_t evictions_changed = 0;
  /// Checkpoints mapped (misses of OpenCheckpoint's cache).
  std::int64_t checkpoints_opened = 0;
  std::int64_t reserved_bytes = 0;
  /// Of the models that hold memory: what their weights take, estimated while
  /// they are loading.
  std::int64_t weight_bytes = 0;
  /// Reserved on the device for work that goes on.
  std::int64_t workspace_bytes = 0;
  /// The same on the host, where that has a budget of its own.
  std::int64_t host_workspace_bytes = 0;
  std::int64_t budget_bytes = 0;
  std::int64_t resident_models = 0;
};

/// A resident model that can't be unloaded while this exists, and the workspace
/// reserved for its user; given back with the last copy. Empty when default-constructed or moved from. May outlive the registry.
/// Threads: safe to copy and drop anywhere; one object, one thread at a time.
class ModelHandle {
 public:
  ModelHandle() = default;

  explicit operator bool() const { return pin_ != nullptr; }
  const model::Model& operator*() const;
  const model::Model* operator->() const { return &**this; }

 private:
  friend class ModelRegistry;
  class Pin;
  explicit ModelHandle(std::shared_ptr<const Pin> pin);
  std::shared_ptr<const Pin> pin_;
};

/// Memory of the budget for work that needs no resident model; given back with
/// the last copy. May outlive the registry.
/// Threads: as ModelHandle.
class WorkspaceReservation {
 public:
  WorkspaceReservation() = default;

 private:
  friend class ModelRegistry;
  class Hold;
  explicit WorkspaceReservation(std::shared_ptr<const Hold> hold);
  std::shared_ptr<const Hold> hold_;
};

/// Which models are resident on one device. Loads on demand within a memory
/// budget: what a model and its user need is reserved, all at once, before
/// anything is read, and models that nobody uses make room, least recently used
/// first. Who must wait for memory is served in the order of asking and holds
/// none meanwhile; so that nobody waits for ever, a thread that holds a handle
/// or a reservation asks for no other. Loads run on threads of their own;
/// callers who want the same model share one load.
/// Threads: safe.
class ModelRegistry {
 public:
  struct Options {
    /// Name of the device in messages.
    std::string device = "cpu";
    std::int64_t memory_budget_bytes = std::numeric_limits<std::int64_t>::max();
    /// Where the device is not the host: the budget of what ReserveWorkspace
    /// takes there. 0: all comes from the one above.
    std::int64_t host_budget_bytes = 0;
    /// A model is not evicted sooner than this after it was loaded.
    absl::Duration minimum_residence = absl::Seconds(10);
    /// Threads that one load may use.
    int threads = 1;
    /// Told of loads and evictions; outlives the registry. nullptr: nobody is.
    Metrics* metrics = nullptr;
  };

  /// `clock` must outlive the registry and its handles.
  ModelRegistry(Options options, std::unique_ptr<ModelSource> source,
                Clock& clock);
  /// Cancels running loads and waits for them. No call may be in progress.
  ~ModelRegistry();
  ModelRegistry(const ModelRegistry&) = delete;
  ModelRegistry& operator=(const ModelRegistry&) = delete;

  const std::string& device() const;

  /// All models that the source lists, and those that are still resident
  /// though their folder is gone; by name.
  absl::StatusOr<std::vector<ModelStatus>> List() const;

  /// Names of the models that are ready now, by name. Looks at no files.
  std::vector<std::string> ReadyModels() const;

  /// Errors: INVALID_ARGUMENT (field "model"), NOT_FOUND.
  absl::StatusOr<ModelStatus> Get(absl::string_view name) const;

  /// The mapped checkpoint, opened once and again whenever its files have
  /// changed. Needs no budget.
  /// Errors: as model::ResolveModel and model::Checkpoint::Open.
  absl::StatusOr<std::shared_ptr<const model::Checkpoint>> OpenCheckpoint(
      absl::string_view name);

  /// The model, resident and pinned, and `workspace_bytes` beside it; loads it,
  /// or joins a load that runs. When the files have changed since it was loaded,
  /// the new ones are loaded. What others hold only for now (running work,
  /// models too young to go) is waited for. `context` ends this caller's
  /// waiting; the load itself is stopped when its last waiter has gone. Progress
  /// of the load goes to every waiter's context.
  /// Errors: as OpenCheckpoint; FAILED_PRECONDITION reason MODEL_TOO_LARGE when
  /// weights and workspace exceed the budget (metadata needed_bytes,
  /// workspace_bytes, available_bytes, budget_bytes, would_have_to_go: names
  /// with commas); CANCELLED, DEADLINE_EXCEEDED; what the load returned.
  absl::StatusOr<ModelHandle> Acquire(absl::string_view name,
                                      std::int64_t workspace_bytes,
                                      const RunContext& context);

  /// `bytes` of the host, where that has a budget of its own, and `device_bytes`
  /// of the device for work without a resident model, both at once; waits for
  /// them as Acquire does.
  /// Errors: RESOURCE_EXHAUSTED reason WORKSPACE_TOO_LARGE when they exceed a
  /// budget (metadata needed_bytes, available_bytes, budget_bytes); CANCELLED,
  /// DEADLINE_EXCEEDED.
  absl::StatusOr<WorkspaceReservation> ReserveWorkspace(
      std::int64_t bytes, const RunContext& context,
      std::int64_t device_bytes = 0);

  /// OK unless Acquire could never be admitted, however long it waits; with an
  /// empty name the same of ReserveWorkspace.
  /// Errors: as theirs.
  absl::Status CheckBudget(absl::string_view name, std::int64_t workspace_bytes,
                           std::int64_t device_bytes = 0);

  /// Makes the model resident and leaves it there, unpinned. Waits for nobody:
  /// there must be room for it and the workspace of a default block now.
  /// Errors: as Acquire, MODEL_TOO_LARGE also when others hold the memory.
  absl::Status Load(absl::string_view name, const RunContext& context);

  /// Gives the model's memory back before it returns; fine when it is not
  /// resident. Forgets the error of a failed load.
  /// Errors: FAILED_PRECONDITION reason MODEL_IN_USE while it is pinned or
  /// loading; INVALID_ARGUMENT (field "model"); NOT_FOUND.
  absl::Status Unload(absl::string_view name);

  /// What Load would do now; loads nothing.
  /// Errors: as OpenCheckpoint.
  absl::StatusOr<LoadEstimate> Estimate(absl::string_view name);

  /// OK when Load would be admitted now.
  /// Errors: as OpenCheckpoint; FAILED_PRECONDITION MODEL_TOO_LARGE as Load.
  absl::Status CheckRoom(absl::string_view name);

  RegistryStats stats() const;

 private:
  friend class ModelHandle;
  friend class WorkspaceReservation;
  struct State;
  absl::StatusOr<ModelHandle> Acquire(const internal::Claim& claim,
                                      const RunContext& context);
  const std::shared_ptr<State> state_;
};

}  // namespace moescope
