#pragma once

#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

#include "moescope/base/mutex.h"
#include "moescope/service/service.h"

namespace moescope {

/// A direct call's job outlives a lost caller by this.
inline constexpr absl::Duration kCallerGrace = absl::Seconds(30);
/// While the caller is connected its job is good for this long; renewed well
/// before, whether or not the caller reads.
inline constexpr absl::Duration kCallerLease = absl::Minutes(2);

/// The jobs of direct calls whose callers are connected. Threads: safe.
struct ConnectedCallers {
  Mutex mutex;
  /// By job: how many streams are open.
  std::map<std::string, int> connected ABSL_GUARDED_BY(mutex);
  absl::Time renewed ABSL_GUARDED_BY(mutex) = absl::InfinitePast();
};

/// Held by the stream of a direct call: its caller is connected, so the job is
/// wanted. When the last one of a job goes, the job has kCallerGrace left.
/// Threads: one at a time.
class CallerLease {
 public:
  CallerLease(Service::State& state, std::string job_id);
  ~CallerLease();
  CallerLease(const CallerLease&) = delete;
  CallerLease& operator=(const CallerLease&) = delete;

  /// Nothing is to be kept alive any more.
  void JobEnded() { job_ended_ = true; }

 private:
  Service::State& state_;
  const std::string job_id_;
  bool job_ended_ = false;
};

/// Prolongs the lease of one job now: its caller is back.
void RenewCallerLease(Service::State& state, const std::string& job_id);
/// Prolongs the leases of all connected callers where that is due. To be called
/// every second or so, by a thread that waits for no client: one that is slow
/// to read must not lose its job.
void RenewCallerLeases(Service::State& state);

}  // namespace moescope
