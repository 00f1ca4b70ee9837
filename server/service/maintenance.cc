// What has to be done from time to time, whoever calls.
#include <set>
#include <string>

#include "absl/time/clock.h"

#include "moescope/base/log.h"
#include "moescope/base/status_macros.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

constexpr absl::Duration kInterval = absl::Minutes(1);
constexpr absl::Duration kLook = absl::Milliseconds(200);

// Keys of all jobs that wait or run: their logs must stay.
absl::StatusOr<std::set<std::string>> LiveKeys(JobStore& store) {
  std::set<std::string> keys;
  for (const JobState state : {JobState::kQueued, JobState::kRunning}) {
    JobFilter filter;
    filter.state = state;
    std::string token;
    do {
      MOESCOPE_ASSIGN_OR_RETURN(const JobPage page,
                                store.ListJobs(filter, 1000, token));
      for (const JobRecord& job : page.jobs) {
        keys.insert(job.key);
      }
      token = page.next_page_token;
    } while (!token.empty());
  }
  return keys;
}

absl::Status MaintainOnce(Service::State& state) {
  // A job that is added while we look has written after `before`.
  const absl::Time before = absl::Now() - kInterval;
  MOESCOPE_ASSIGN_OR_RETURN(const std::set<std::string> live,
                            LiveKeys(*state.store));
  MOESCOPE_RETURN_IF_ERROR(state.results->RemoveStale(live, before));
  MOESCOPE_ASSIGN_OR_RETURN(const EvictionReport report,
                            state.results->Evict({}));
  for (const std::string& key : report.dropped) {
    state.metrics.CacheEvicted("disk");
    MOESCOPE_RETURN_IF_ERROR(state.store->DeleteResult(key));
  }
  return absl::OkStatus();
}

}  // namespace

void RunMaintenance(Service::State& state) {
  absl::Time next = absl::Now();
  while (!state.maintenance_stop.cancelled()) {
    if (absl::Now() >= next) {
      const absl::Status status = MaintainOnce(state);
      if (!status.ok()) {
        Log(LogLevel::kWarning, "maintenance_failed",
            {{"error", status.ToString()}});
      }
      next = absl::Now() + kInterval;
    }
    absl::SleepFor(kLook);
  }
}

}  // namespace moescope
