#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "moescope/jobs/job.h"

namespace moescope {

struct SchedulingOptions {
  /// A client whose batch work has not been served for this long has its
  /// oldest piece treated as interactive.
  absl::Duration batch_patience = absl::Minutes(5);
  /// For how long work whose model is not loaded gives way to work whose
  /// model is.
  absl::Duration affinity_patience = absl::Seconds(30);
};

/// A piece of work that could start now.
struct QueuedWork {
  std::string id;
  std::string client;
  Priority priority = Priority::kBatch;
  absl::Time created;
  std::string affinity;
};

struct ClientHistory {
  std::int64_t running = 0;
  /// InfinitePast: never.
  absl::Time last_start = absl::InfinitePast();
  absl::Time last_batch_start = absl::InfinitePast();
};

struct SchedulingSnapshot {
  absl::Time now;
  std::vector<QueuedWork> queued;
  std::map<std::string, ClientHistory> clients;
  /// What is loaded here.
  std::set<std::string> warm;
};

/// Which of `snapshot.queued` to start next; nothing when it is empty.
/// Definition: the first by, in this order: interactive before batch (of each
/// client one neglected piece of batch work counts as interactive, so that
/// nothing starves); the client with fewer running pieces; loaded before not
/// loaded, within the affinity patience; the client that was served longest
/// ago; the oldest; the lowest id. Pure. Threads: safe.
std::optional<std::size_t> ChooseNext(const SchedulingSnapshot& snapshot,
                                      const SchedulingOptions& options);

/// All of `snapshot.queued` in the order in which they would be started if they
/// started one after another now, nothing ended and nothing came. Cost: each
/// start looks at one piece of work per client. Pure. Threads: safe.
std::vector<std::size_t> StartOrder(const SchedulingSnapshot& snapshot,
                                    const SchedulingOptions& options);

}  // namespace moescope
