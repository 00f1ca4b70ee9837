#include "moescope/jobs/scheduling_policy.h"

#include <tuple>

namespace moescope {
namespace {

ClientHistory HistoryOf(const SchedulingSnapshot& snapshot,
                        const std::string& client) {
  const auto found = snapshot.clients.find(client);
  return found == snapshot.clients.end() ? ClientHistory() : found->second;
}

// Of each client the oldest batch work, when it has waited long enough and so
// has the client. One at a time: a flood of old batch work must not bar the way
// for interactive work.
std::set<std::size_t> Promoted(const SchedulingSnapshot& snapshot,
                               absl::Duration patience) {
  std::map<std::string, std::size_t> oldest;
  for (std::size_t i = 0; i < snapshot.queued.size(); ++i) {
    const QueuedWork& work = snapshot.queued[i];
    if (work.priority != Priority::kBatch) {
      continue;
    }
    const auto [at, inserted] = oldest.emplace(work.client, i);
    const QueuedWork& best = snapshot.queued[at->second];
    if (!inserted &&
        std::tie(work.created, work.id) < std::tie(best.created, best.id)) {
      at->second = i;
    }
  }
  std::set<std::size_t> promoted;
  for (const auto& [client, i] : oldest) {
    const ClientHistory history = HistoryOf(snapshot, client);
    if (snapshot.now - snapshot.queued[i].created >= patience &&
        snapshot.now - history.last_batch_start >= patience) {
      promoted.insert(i);
    }
  }
  return promoted;
}

}  // namespace

std::optional<std::size_t> ChooseNext(const SchedulingSnapshot& snapshot,
                                      const SchedulingOptions& options) {
  const std::set<std::size_t> promoted =
      Promoted(snapshot, options.batch_patience);
  using Rank = std::tuple<bool, std::int64_t, bool, absl::Time, absl::Time,
                          std::string>;
  std::optional<std::size_t> best;
  Rank best_rank;
  for (std::size_t i = 0; i < snapshot.queued.size(); ++i) {
    const QueuedWork& work = snapshot.queued[i];
    const ClientHistory history = HistoryOf(snapshot, work.client);
    const bool batch =
        work.priority == Priority::kBatch && promoted.count(i) == 0;
    const bool cold =
        !work.affinity.empty() && snapshot.warm.count(work.affinity) == 0 &&
        snapshot.now - work.created < options.affinity_patience;
    Rank rank(batch, history.running, cold, history.last_start, work.created,
              work.id);
    if (!best.has_value() || rank < best_rank) {
      best = i;
      best_rank = std::move(rank);
    }
  }
  return best;
}

}  // namespace moescope
