// Who gets memory: reservations of models and of workspace within the budget.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/telemetry/metrics.h"
#include "server/registry/registry_state_internal.h"

namespace moescope {
namespace {

constexpr const char* kHost = "cpu";

ErrorDetails MemoryDetails(std::int64_t needed_bytes,
                           std::int64_t available_bytes,
                           std::int64_t budget_bytes) {
  ErrorDetails details;
  details.metadata = {{"needed_bytes", absl::StrCat(needed_bytes)},
                      {"available_bytes", absl::StrCat(available_bytes)},
                      {"budget_bytes", absl::StrCat(budget_bytes)}};
  return details;
}

absl::Status ModelTooLarge(const internal::Claim& claim,
                           const ModelRegistry::Options& options,
                           const EvictionPlan& plan) {
  const std::int64_t needed_bytes =
      claim.estimate.weight_bytes + claim.workspace_bytes;
  ErrorDetails details = MemoryDetails(needed_bytes, plan.available_bytes,
                                       options.memory_budget_bytes);
  details.reason = "MODEL_TOO_LARGE";
  details.metadata["workspace_bytes"] = absl::StrCat(claim.workspace_bytes);
  details.metadata["would_have_to_go"] =
      absl::StrJoin(plan.would_have_to_go, ",");
  const std::string rest =
      plan.would_have_to_go.empty()
          ? std::string("more than the whole budget")
          : absl::StrCat("these are in use or too young to go: ",
                         absl::StrJoin(plan.would_have_to_go, ", "));
  return MakeError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat("model \"", claim.name, "\" needs ", needed_bytes,
                   " bytes on ", options.device, "; ", plan.available_bytes,
                   " of ", options.memory_budget_bytes, " are free; ", rest,
                   " (", claim.workspace_bytes,
                   " are workspace, which grows with block_tokens)"),
      details);
}

absl::Status WorkspaceTooLarge(absl::string_view place,
                               std::int64_t needed_bytes,
                               std::int64_t available_bytes,
                               std::int64_t budget_bytes) {
  ErrorDetails details =
      MemoryDetails(needed_bytes, available_bytes, budget_bytes);
  details.reason = "WORKSPACE_TOO_LARGE";
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("the analysis needs ", needed_bytes,
                                " bytes on ", place, "; ", available_bytes,
                                " of ", budget_bytes,
                                " are free; more than the whole budget"),
                   details);
}

// A place in queues, given up with this object. Who has one in both has the same
// number there: the lowest of all numbers is at the front of all its queues.
class Ticket {
 public:
  using Queue = std::deque<std::uint64_t>;

  Ticket(Mutex& mutex, std::uint64_t& last, std::vector<Queue*> queues)
      : mutex_(mutex), queues_(std::move(queues)) {
    const MutexLock lock(mutex_);
    number_ = ++last;
    for (Queue* const queue : queues_) {
      queue->push_back(number_);
    }
  }
  ~Ticket() {
    const MutexLock lock(mutex_);
    for (Queue* const queue : queues_) {
      queue->erase(std::find(queue->begin(), queue->end(), number_));
    }
  }
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;
  std::uint64_t number() const { return number_; }

 private:
  Mutex& mutex_;
  const std::vector<Queue*> queues_;
  std::uint64_t number_ = 0;
};

}  // namespace

EvictionPlan ModelRegistry::State::Plan(
    std::int64_t needed_bytes, const internal::Resident* kept) const {
  std::vector<ResidentModel> snapshot;
  for (const ResidentPtr& resident : residents) {
    // What is being freed is as good as gone: whoever counts on it waits.
    if (resident->state == ModelState::kUnloading) {
      continue;
    }
    const bool held = resident->state == ModelState::kLoading ||
                      resident.get() == kept;
    snapshot.push_back(
        {resident->name, resident->bytes + resident->workspace_bytes,
         resident->pins + resident->waiters + (held ? 1 : 0),
         resident->loaded_at, resident->last_used});
  }
  // What has no model can't be evicted: for the policy there is so much less.
  const std::int64_t elsewhere =
      HasHostBudget() ? free_standing_device_bytes : free_standing_bytes;
  return PlanEviction(snapshot, needed_bytes,
                      options.memory_budget_bytes - elsewhere,
                      options.minimum_residence, clock.Now());
}

EvictionPlan ModelRegistry::State::PlanFor(const internal::Claim& claim,
                                           const ResidentPtr& resident) const {
  if (TakesHost(claim)) {
    EvictionPlan plan;
    plan.fits = true;
    if (TakesDevice(claim)) {
      plan = Plan(claim.device_bytes);
    }
    plan.fits = plan.fits && claim.workspace_bytes <= options.host_budget_bytes -
                                                          free_standing_bytes;
    return plan;
  }
  const bool loads = !claim.name.empty() && resident == nullptr;
  return Plan(claim.workspace_bytes + (loads ? claim.estimate.weight_bytes : 0),
              resident.get());
}

absl::Status ModelRegistry::State::Refusal(const internal::Claim& claim,
                                           const ResidentPtr& resident,
                                           EvictionPlan plan) const {
  if (TakesHost(claim)) {
    const std::int64_t host_budget = options.host_budget_bytes;
    if (claim.workspace_bytes > host_budget) {
      return WorkspaceTooLarge(kHost, claim.workspace_bytes,
                               host_budget - free_standing_bytes, host_budget);
    }
    return claim.device_bytes <= options.memory_budget_bytes
               ? absl::OkStatus()
               : WorkspaceTooLarge(options.device, claim.device_bytes,
                                   plan.available_bytes,
                                   options.memory_budget_bytes);
  }
  const std::int64_t budget = options.memory_budget_bytes;
  const bool never =
      claim.estimate.weight_bytes + claim.workspace_bytes > budget;
  if (!never && claim.waits) {
    return absl::OkStatus();
  }
  if (claim.name.empty()) {
    return WorkspaceTooLarge(kHost, claim.workspace_bytes,
                             plan.available_bytes, budget);
  }
  if (never) {
    plan.would_have_to_go.clear();
  }
  if (resident != nullptr) {
    plan.available_bytes += resident->bytes;
  }
  return ModelTooLarge(claim, options, plan);
}

std::vector<internal::ResidentPtr> ModelRegistry::State::Evict(
    const EvictionPlan& plan) {
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
  return victims;
}

internal::ResidentPtr ModelRegistry::State::RetireIfChanged(
    const internal::Claim& claim, ResidentPtr resident,
    std::vector<ResidentPtr>& victims) {
  if (resident == nullptr || resident->checkpoint == claim.checkpoint) {
    return resident;
  }
  resident->retired = true;
  ++stats.evictions_changed;
  CountEviction("changed");
  if (IsLeftover(*resident)) {
    resident->state = ModelState::kUnloading;
    victims.push_back(resident);
  }
  return nullptr;
}

internal::Attempt ModelRegistry::State::Try(const internal::Claim& claim,
                                            std::uint64_t ticket) {
  internal::Attempt attempt;
  ResidentPtr resident = claim.name.empty() ? nullptr : Find(claim.name);
  if (resident != nullptr && resident->state == ModelState::kLoading &&
      resident->token->cancelled()) {
    // Its last waiter has left; it ends soon.
    attempt.again = true;
    return attempt;
  }
  resident = RetireIfChanged(claim, resident, attempt.victims);
  const EvictionPlan plan = PlanFor(claim, resident);
  if (!plan.fits) {
    attempt.refusal = Refusal(claim, resident, plan);
    attempt.again = attempt.refusal.ok();
    return attempt;
  }
  const bool first =
      (!TakesHost(claim) || ticket == host_queue.front()) &&
      (!TakesDevice(claim) || ticket == device_queue.front());
  if (claim.waits && !first) {
    attempt.again = true;
    return attempt;
  }
  for (ResidentPtr& victim : Evict(plan)) {
    attempt.victims.push_back(std::move(victim));
  }
  if (claim.name.empty()) {
    free_standing_bytes += claim.workspace_bytes;
    free_standing_device_bytes += claim.device_bytes;
    return attempt;
  }
  if (resident == nullptr) {
    resident = StartLoad(claim);
  } else if (resident->state == ModelState::kLoading) {
    ++stats.loads_joined;
  }
  ++resident->waiters;
  resident->workspace_bytes += claim.workspace_bytes;
  attempt.resident = std::move(resident);
  return attempt;
}

void ModelRegistry::State::AwaitFreed() {
  const MutexLock lock(mutex);
  while (std::any_of(residents.begin(), residents.end(),
                     [](const ResidentPtr& resident) {
                       return resident->state == ModelState::kUnloading;
                     })) {
    changed.Wait(mutex);
  }
}

absl::StatusOr<internal::ResidentPtr> ModelRegistry::State::Admit(
    const internal::Claim& claim, const RunContext& context) {
  std::vector<Ticket::Queue*> queues;
  if (TakesHost(claim)) {
    queues.push_back(&host_queue);
  }
  if (TakesDevice(claim)) {
    queues.push_back(&device_queue);
  }
  const Ticket ticket(mutex, last_ticket, std::move(queues));
  for (bool told = false;; told = true) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    internal::Attempt attempt = [&] {
      const MutexLock lock(mutex);
      internal::Attempt tried = Try(claim, ticket.number());
      if (!tried.refusal.ok()) {
        ++stats.refused_too_large;
      }
      return tried;
    }();
    Free(attempt.victims);
    if (!attempt.refusal.ok()) {
      if (options.metrics != nullptr && !claim.name.empty()) {
        options.metrics->ModelLoadFailed("MODEL_TOO_LARGE");
      }
      return attempt.refusal;
    }
    if (!attempt.again) {
      AwaitFreed();
      return std::move(attempt.resident);
    }
    if (!told) {
      context.ReportProgress({"waiting for memory", 0, 0, "bytes"});
    }
    const MutexLock lock(mutex);
    changed.WaitFor(mutex, internal::kLookInterval);
  }
}

}  // namespace moescope
