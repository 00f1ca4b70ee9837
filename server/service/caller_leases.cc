#include "server/service/caller_leases_internal.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "moescope/base/log.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

// Well before a lease ends.
constexpr absl::Duration kRenewal = absl::Seconds(15);

void Touch(Service::State& state, const std::string& job_id,
           absl::Duration lease) {
  const absl::Time now = state.clock.Now();
  const absl::Status status =
      state.store->TouchCaller(job_id, now + lease, now);
  // A job that ended long ago may be gone before its slow reader.
  if (!status.ok() && !absl::IsNotFound(status)) {
    Log(LogLevel::kWarning, "touch_caller_failed",
        {{"job", job_id}, {"error", status.ToString()}});
  }
}

}  // namespace

CallerLease::CallerLease(Service::State& state, std::string job_id)
    : state_(state), job_id_(std::move(job_id)) {
  const MutexLock lock(state_.callers.mutex);
  ++state_.callers.connected[job_id_];
}

CallerLease::~CallerLease() {
  const MutexLock lock(state_.callers.mutex);
  const auto found = state_.callers.connected.find(job_id_);
  if (--found->second > 0) {
    return;  // The caller has come back by another connection already.
  }
  state_.callers.connected.erase(found);
  if (!job_ended_) {
    // Under the lock: no renewal may come after it.
    Touch(state_, job_id_, kCallerGrace);
  }
}

void RenewCallerLease(Service::State& state, const std::string& job_id) {
  Touch(state, job_id, kCallerLease);
}

void RenewCallerLeases(Service::State& state) {
  std::vector<std::string> jobs;
  {
    const MutexLock lock(state.callers.mutex);
    const absl::Time now = state.clock.Now();
    if (now - state.callers.renewed < kRenewal) {
      return;
    }
    state.callers.renewed = now;
    for (const auto& [job, count] : state.callers.connected) {
      jobs.push_back(job);
    }
  }
  for (const std::string& job : jobs) {
    // One by one, since each is a write to the disk.
    const MutexLock lock(state.callers.mutex);
    if (state.callers.connected.count(job) > 0) {
      Touch(state, job, kCallerLease);
    }
  }
}

}  // namespace moescope
