#include "moescope/registry/model_registry.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "server/registry/registry_state_internal.h"

namespace moescope {
namespace {

absl::Status InUse(absl::string_view name, absl::string_view by) {
  ErrorDetails details;
  details.reason = "MODEL_IN_USE";
  details.metadata = {{"model", std::string(name)}};
  return MakeError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat("model \"", name, "\" can't be unloaded: ", by), details);
}

// An estimate until the model is there.
std::int64_t WeightBytes(const internal::Resident& resident) {
  return resident.model == nullptr ? resident.estimate.weight_bytes
                                   : resident.model->weight_bytes();
}

}  // namespace

absl::string_view ModelStateName(ModelState state) {
  switch (state) {
    case ModelState::kUnloaded:
      return "UNLOADED";
    case ModelState::kLoading:
      return "LOADING";
    case ModelState::kReady:
      return "READY";
    case ModelState::kUnloading:
      return "UNLOADING";
    case ModelState::kFailed:
      return "FAILED";
  }
  return "UNKNOWN";
}

ModelHandle::ModelHandle(std::shared_ptr<const Pin> pin)
    : pin_(std::move(pin)) {}
WorkspaceReservation::WorkspaceReservation(std::shared_ptr<const Hold> hold)
    : hold_(std::move(hold)) {}
const model::Model& ModelHandle::operator*() const { return pin_->model(); }

ModelRegistry::ModelRegistry(Options options,
                             std::unique_ptr<ModelSource> source, Clock& clock)
    : state_(std::make_shared<State>(std::move(options), std::move(source),
                                     clock)) {}

ModelRegistry::~ModelRegistry() {
  std::vector<State::Loader> loaders;
  {
    const MutexLock lock(state_->mutex);
    for (const internal::ResidentPtr& resident : state_->residents) {
      resident->token->Cancel(absl::CancelledError("shutting down"));
    }
    loaders.swap(state_->loaders);
  }
  for (State::Loader& loader : loaders) {
    loader.thread.join();
  }
}

const std::string& ModelRegistry::device() const {
  return state_->options.device;
}

internal::ResidentPtr ModelRegistry::State::Find(absl::string_view name) const {
  for (const ResidentPtr& resident : residents) {
    if (name == resident->name && !resident->retired &&
        resident->state != ModelState::kUnloading) {
      return resident;
    }
  }
  return nullptr;
}

ModelStatus ModelRegistry::State::StatusOf(const std::string& name) const {
  ModelStatus status;
  status.name = name;
  const auto memory = memories.find(name);
  if (memory != memories.end()) {
    status.error = memory->second.error;
    status.load_time = memory->second.load_time;
    status.last_used = memory->second.last_used;
    if (!status.error.ok()) {
      status.state = ModelState::kFailed;
    }
  }
  const ResidentPtr current = Find(name);
  for (const ResidentPtr& resident : residents) {
    if (resident->name != name) {
      continue;
    }
    status.reserved_bytes += resident->bytes + resident->workspace_bytes;
    status.weight_bytes += WeightBytes(*resident);
    status.pins += resident->pins;
    if (resident == current || current == nullptr) {
      status.state = resident->state;
      status.error = absl::OkStatus();
      status.last_used = resident->last_used;
      status.progress = resident->state == ModelState::kLoading
                            ? resident->progress
                            : Progress();
    }
  }
  return status;
}

absl::StatusOr<std::vector<ModelStatus>> ModelRegistry::List() const {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<model::ModelFolder> folders,
                            state_->source->List());
  std::set<std::string> names;
  for (const model::ModelFolder& folder : folders) {
    names.insert(folder.name);
  }
  const MutexLock lock(state_->mutex);
  for (const internal::ResidentPtr& resident : state_->residents) {
    names.insert(resident->name);
  }
  std::vector<ModelStatus> list;
  for (const std::string& name : names) {
    list.push_back(state_->StatusOf(name));
  }
  return list;
}

std::vector<std::string> ModelRegistry::ReadyModels() const {
  std::set<std::string> names;
  const MutexLock lock(state_->mutex);
  for (const internal::ResidentPtr& resident : state_->residents) {
    const internal::ResidentPtr current = state_->Find(resident->name);
    if (current != nullptr && current->state == ModelState::kReady) {
      names.insert(current->name);
    }
  }
  return {names.begin(), names.end()};
}

absl::StatusOr<ModelStatus> ModelRegistry::Get(absl::string_view name) const {
  MOESCOPE_ASSIGN_OR_RETURN(const model::ModelFolder folder,
                            state_->source->Resolve(name));
  const MutexLock lock(state_->mutex);
  return state_->StatusOf(folder.name);
}

absl::StatusOr<std::shared_ptr<const model::Checkpoint>>
ModelRegistry::State::OpenCheckpoint(const model::ModelFolder& folder) {
  // Before the files are read: a change in between is seen next time.
  MOESCOPE_ASSIGN_OR_RETURN(const std::string fingerprint,
                            source->Fingerprint(folder));
  {
    const MutexLock lock(mutex);
    const auto found = checkpoints.find(folder.name);
    if (found != checkpoints.end() &&
        found->second.fingerprint == fingerprint) {
      return found->second.checkpoint;
    }
  }
  MOESCOPE_ASSIGN_OR_RETURN(std::shared_ptr<const model::Checkpoint> opened,
                            source->Open(folder));
  const MutexLock lock(mutex);
  OpenedCheckpoint& entry = checkpoints[folder.name];
  // One object for all: its address tells whether a resident model is current.
  if (entry.checkpoint == nullptr || entry.fingerprint != fingerprint) {
    ++stats.checkpoints_opened;
    entry.fingerprint = fingerprint;
    entry.checkpoint = std::move(opened);
  }
  return entry.checkpoint;
}

absl::StatusOr<std::shared_ptr<const model::Checkpoint>>
ModelRegistry::OpenCheckpoint(absl::string_view name) {
  MOESCOPE_ASSIGN_OR_RETURN(const model::ModelFolder folder,
                            state_->source->Resolve(name));
  return state_->OpenCheckpoint(folder);
}

absl::StatusOr<internal::Claim> ModelRegistry::State::ClaimOf(
    absl::string_view name) {
  MOESCOPE_ASSIGN_OR_RETURN(const model::ModelFolder folder,
                            source->Resolve(name));
  internal::Claim claim;
  claim.name = folder.name;
  MOESCOPE_ASSIGN_OR_RETURN(claim.checkpoint, OpenCheckpoint(folder));
  claim.estimate = source->Estimate(*claim.checkpoint);
  return claim;
}

internal::Claim ModelRegistry::State::ClaimOf(std::int64_t bytes,
                                              std::int64_t device_bytes) const {
  internal::Claim claim;
  claim.workspace_bytes = HasHostBudget() ? bytes : bytes + device_bytes;
  claim.device_bytes = HasHostBudget() ? device_bytes : 0;
  return claim;
}

absl::StatusOr<ModelHandle> ModelRegistry::Acquire(absl::string_view name,
                                                   std::int64_t workspace_bytes,
                                                   const RunContext& context) {
  MOESCOPE_RETURN_IF_ERROR(context.Check());
  MOESCOPE_ASSIGN_OR_RETURN(internal::Claim claim, state_->ClaimOf(name));
  claim.workspace_bytes = workspace_bytes;
  return Acquire(claim, context);
}

absl::StatusOr<ModelHandle> ModelRegistry::Acquire(const internal::Claim& claim,
                                                   const RunContext& context) {
  State& state = *state_;
  MOESCOPE_ASSIGN_OR_RETURN(const internal::ResidentPtr resident,
                            state.Admit(claim, context));
  MOESCOPE_RETURN_IF_ERROR(
      state.WaitUntilReady(resident, claim.workspace_bytes, context));
  std::shared_ptr<const model::Model> model;
  {
    const MutexLock lock(state.mutex);
    resident->last_used = state.clock.Now();
    model = resident->model;
  }
  return ModelHandle(std::make_shared<const ModelHandle::Pin>(
      state_, resident, claim.workspace_bytes, model));
}

absl::StatusOr<WorkspaceReservation> ModelRegistry::ReserveWorkspace(
    std::int64_t bytes, const RunContext& context, std::int64_t device_bytes) {
  const internal::Claim claim = state_->ClaimOf(bytes, device_bytes);
  MOESCOPE_RETURN_IF_ERROR(state_->Admit(claim, context).status());
  return WorkspaceReservation(
      std::make_shared<const WorkspaceReservation::Hold>(state_, claim));
}

absl::Status ModelRegistry::Load(absl::string_view name,
                                 const RunContext& context) {
  MOESCOPE_RETURN_IF_ERROR(context.Check());
  MOESCOPE_ASSIGN_OR_RETURN(internal::Claim claim, state_->ClaimOf(name));
  claim.workspace_bytes = claim.estimate.workspace_bytes;
  claim.waits = false;
  return Acquire(claim, context).status();
}

absl::Status ModelRegistry::Unload(absl::string_view name) {
  State& state = *state_;
  const absl::StatusOr<model::ModelFolder> folder = state.source->Resolve(name);
  const std::string key = folder.ok() ? folder->name : std::string(name);
  internal::ResidentPtr resident;
  {
    const MutexLock lock(state.mutex);
    resident = state.Find(key);
    if (resident == nullptr) {
      MOESCOPE_RETURN_IF_ERROR(folder.status());
      state.memories[key].error = absl::OkStatus();
      state.checkpoints.erase(key);
      return absl::OkStatus();
    }
    if (resident->state == ModelState::kLoading) {
      return InUse(name, "it is being loaded");
    }
    if (resident->pins + resident->waiters > 0) {
      return InUse(name, absl::StrCat("pinned by ",
                                      resident->pins + resident->waiters));
    }
    resident->state = ModelState::kUnloading;
    ++state.stats.evictions_request;
    state.CountEviction("request");
    state.checkpoints.erase(key);
  }
  state.Free({resident});
  return absl::OkStatus();
}

absl::StatusOr<LoadEstimate> ModelRegistry::Estimate(absl::string_view name) {
  MOESCOPE_ASSIGN_OR_RETURN(const model::ModelFolder folder,
                            state_->source->Resolve(name));
  MOESCOPE_ASSIGN_OR_RETURN(const auto checkpoint,
                            state_->OpenCheckpoint(folder));
  LoadEstimate estimate;
  estimate.memory = state_->source->Estimate(*checkpoint);
  estimate.needed_bytes =
      estimate.memory.weight_bytes + estimate.memory.workspace_bytes;
  estimate.budget_bytes = state_->options.memory_budget_bytes;
  const MutexLock lock(state_->mutex);
  const EvictionPlan plan = state_->Plan(estimate.needed_bytes);
  estimate.available_bytes = plan.available_bytes;
  const internal::ResidentPtr resident = state_->Find(folder.name);
  if (resident != nullptr && resident->checkpoint == checkpoint) {
    estimate.fits = true;
    return estimate;
  }
  estimate.fits = plan.fits;
  estimate.would_evict = plan.evict;
  estimate.would_have_to_go = plan.would_have_to_go;
  return estimate;
}

absl::Status ModelRegistry::CheckRoom(absl::string_view name) {
  MOESCOPE_ASSIGN_OR_RETURN(internal::Claim claim, state_->ClaimOf(name));
  claim.workspace_bytes = claim.estimate.workspace_bytes;
  claim.waits = false;
  const MutexLock lock(state_->mutex);
  const internal::ResidentPtr resident = state_->Find(claim.name);
  if (resident != nullptr && resident->checkpoint == claim.checkpoint) {
    return absl::OkStatus();
  }
  const EvictionPlan plan = state_->PlanFor(claim, nullptr);
  return plan.fits ? absl::OkStatus() : state_->Refusal(claim, nullptr, plan);
}

absl::Status ModelRegistry::CheckBudget(absl::string_view name,
                                        std::int64_t workspace_bytes,
                                        std::int64_t device_bytes) {
  internal::Claim claim = state_->ClaimOf(workspace_bytes, device_bytes);
  if (!name.empty()) {
    MOESCOPE_ASSIGN_OR_RETURN(claim, state_->ClaimOf(name));
    claim.workspace_bytes = workspace_bytes;
  }
  const MutexLock lock(state_->mutex);
  const internal::ResidentPtr resident =
      name.empty() ? nullptr : state_->Find(claim.name);
  return state_->Refusal(claim, resident, state_->PlanFor(claim, resident));
}

RegistryStats ModelRegistry::stats() const {
  const MutexLock lock(state_->mutex);
  RegistryStats stats = state_->stats;
  stats.budget_bytes = state_->options.memory_budget_bytes;
  for (const internal::ResidentPtr& resident : state_->residents) {
    stats.reserved_bytes += resident->bytes;
    stats.workspace_bytes += resident->workspace_bytes;
    stats.weight_bytes += WeightBytes(*resident);
    if (resident->state == ModelState::kReady) {
      ++stats.resident_models;
    }
  }
  if (state_->HasHostBudget()) {
    stats.host_workspace_bytes = state_->free_standing_bytes;
    stats.workspace_bytes += state_->free_standing_device_bytes;
  } else {
    stats.workspace_bytes += state_->free_standing_bytes;
  }
  stats.reserved_bytes += stats.workspace_bytes;
  return stats;
}

}  // namespace moescope
