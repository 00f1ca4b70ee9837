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

absl::Status MaintainOnce(Service::State& state) {
  // A job that is added while we look has written after `before`.
  const absl::Time before = absl::Now() - kInterval;
  MOESCOPE_ASSIGN_OR_RETURN(const std::set<std::string> live,
                            state.store->LiveKeys());
  MOESCOPE_RETURN_IF_ERROR(state.results->RemoveStale(live, before));
  MOESCOPE_ASSIGN_OR_RETURN(const std::set<std::string> passing,
                            state.store->UnsharedResults());
  MOESCOPE_ASSIGN_OR_RETURN(const EvictionReport report,
                            state.results->Evict({}, 0, passing));
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
    RenewCallerLeases(state);
    absl::SleepFor(kLook);
  }
}

}  // namespace moescope
