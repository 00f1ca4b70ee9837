#include "moescope/jobs/scheduling_policy.h"

#include <algorithm>
#include <iterator>
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

// What decides among the pieces of one client; then between clients their
// histories count as well.
struct Ranked {
  bool batch = false;
  bool cold = false;
  std::size_t index = 0;
};

std::vector<Ranked> RankAll(const SchedulingSnapshot& snapshot,
                            const SchedulingOptions& options) {
  const std::set<std::size_t> promoted =
      Promoted(snapshot, options.batch_patience);
  std::vector<Ranked> ranked;
  for (std::size_t i = 0; i < snapshot.queued.size(); ++i) {
    const QueuedWork& work = snapshot.queued[i];
    const bool cold =
        !work.affinity.empty() && snapshot.warm.count(work.affinity) == 0 &&
        snapshot.now - work.created < options.affinity_patience;
    ranked.push_back(
        {work.priority == Priority::kBatch && promoted.count(i) == 0, cold, i});
  }
  return ranked;
}

bool GoesBefore(const SchedulingSnapshot& snapshot, const Ranked& a,
                const ClientHistory& client_of_a, const Ranked& b,
                const ClientHistory& client_of_b) {
  const QueuedWork& x = snapshot.queued[a.index];
  const QueuedWork& y = snapshot.queued[b.index];
  return std::tie(a.batch, client_of_a.running, a.cold, client_of_a.last_start,
                  x.created, x.id) <
         std::tie(b.batch, client_of_b.running, b.cold, client_of_b.last_start,
                  y.created, y.id);
}

}  // namespace

std::optional<std::size_t> ChooseNext(const SchedulingSnapshot& snapshot,
                                      const SchedulingOptions& options) {
  std::optional<Ranked> best;
  ClientHistory best_history;
  for (const Ranked& candidate : RankAll(snapshot, options)) {
    ClientHistory history =
        HistoryOf(snapshot, snapshot.queued[candidate.index].client);
    if (!best.has_value() ||
        GoesBefore(snapshot, candidate, history, *best, best_history)) {
      best = candidate;
      best_history = history;
    }
  }
  return best.has_value() ? std::make_optional(best->index) : std::nullopt;
}

std::vector<std::size_t> StartOrder(const SchedulingSnapshot& snapshot,
                                    const SchedulingOptions& options) {
  struct Client {
    ClientHistory history;
    std::vector<Ranked> work;  // The next one last.
  };
  std::map<std::string, Client> clients;
  for (const Ranked& ranked : RankAll(snapshot, options)) {
    const std::string& name = snapshot.queued[ranked.index].client;
    Client& client = clients[name];
    client.history = HistoryOf(snapshot, name);
    client.work.push_back(ranked);
  }
  for (auto& [name, client] : clients) {
    std::sort(client.work.begin(), client.work.end(),
              [&, &history = client.history](const Ranked& a, const Ranked& b) {
                return GoesBefore(snapshot, b, history, a, history);
              });
  }
  std::vector<std::size_t> order;
  while (!clients.empty()) {
    auto best = clients.begin();
    for (auto at = std::next(best); at != clients.end(); ++at) {
      if (GoesBefore(snapshot, at->second.work.back(), at->second.history,
                     best->second.work.back(), best->second.history)) {
        best = at;
      }
    }
    Client& client = best->second;
    order.push_back(client.work.back().index);
    client.work.pop_back();
    ++client.history.running;
    // One after another: later than all that was served before.
    client.history.last_start =
        snapshot.now + absl::Nanoseconds(static_cast<int>(order.size()));
    if (client.work.empty()) {
      clients.erase(best);
    }
  }
  return order;
}

}  // namespace moescope
