#include <algorithm>
#include <functional>
#include <limits>

#include "moescope/base/file.h"
#include "moescope/base/status_macros.h"
#include "server/results/result_store_internal.h"

namespace moescope {
namespace {

using internal::RunningFile;

absl::Status RemoveRunning(
    const internal::StoreFiles& files,
    const std::function<bool(const RunningFile&)>& unwanted) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<RunningFile> all,
                            files.ListRunning());
  bool removed = false;
  for (const RunningFile& file : all) {
    if (unwanted(file)) {
      MOESCOPE_RETURN_IF_ERROR(internal::RemoveFile(file.path));
      removed = true;
    }
  }
  return removed ? internal::SyncFolder(files.running_folder())
                 : absl::OkStatus();
}

}  // namespace

absl::Status ResultStore::State::RefreshSealed() {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<internal::SealedFile> found,
                            files.ListSealed());
  const MutexLock lock(mutex);
  std::map<std::string, Entry, std::less<>> before;
  before.swap(sealed);
  for (const internal::SealedFile& file : found) {
    Entry& entry = sealed[file.key];
    const auto known = before.find(file.key);
    if (known == before.end()) {
      entry.last_used = file.last_used;
      entry.touched = file.last_used;
    } else {
      entry = std::move(known->second);
      // Another process may have used it later.
      entry.last_used = std::max(entry.last_used, file.last_used);
      before.erase(known);
    }
    entry.bytes = file.bytes;
  }
  // Sealed by this process while the folder was being listed.
  for (auto& [key, entry] : before) {
    if (files.FindSealed(key).has_value()) {
      sealed.emplace(key, std::move(entry));
    }
  }
  return absl::OkStatus();
}

bool ResultStore::HasSealed(absl::string_view key) {
  return internal::CheckKey(key).ok() &&
         state_->files.FindSealed(key).has_value();
}

absl::Status ResultStore::Remove(absl::string_view key) {
  MOESCOPE_RETURN_IF_ERROR(internal::CheckKey(key));
  {
    const MutexLock lock(state_->mutex);
    state_->memory.Erase(key);
    state_->sealed.erase(std::string(key));
  }
  MOESCOPE_RETURN_IF_ERROR(internal::RemoveFile(state_->files.SealedLog(key)));
  MOESCOPE_RETURN_IF_ERROR(internal::SyncFolder(state_->files.sealed_folder()));
  return DiscardRunning(key, std::numeric_limits<std::int64_t>::max());
}

absl::Status ResultStore::DiscardRunning(absl::string_view key,
                                         std::int64_t fence) {
  MOESCOPE_RETURN_IF_ERROR(internal::CheckKey(key));
  return RemoveRunning(state_->files, [&](const RunningFile& file) {
    return file.key == key && !file.is_temporary && file.fence <= fence;
  });
}

absl::Status ResultStore::RemoveStale(const std::set<std::string>& live,
                                      absl::Time before) {
  return RemoveRunning(state_->files, [&](const RunningFile& file) {
    return live.count(file.key) == 0 && file.modified < before;
  });
}

absl::StatusOr<EvictionReport> ResultStore::Evict(
    const std::set<std::string>& pinned, std::int64_t reserve_bytes,
    const std::set<std::string>& passing) {
  State& state = *state_;
  MOESCOPE_RETURN_IF_ERROR(state.RefreshSealed());
  const std::int64_t limit =
      std::max<std::int64_t>(0, state.options.disk_bytes - reserve_bytes);
  const absl::Time now = state.clock.Now();
  EvictionReport report;
  {
    const MutexLock lock(state.mutex);
    std::int64_t total = 0;
    std::vector<std::pair<absl::Time, std::string>> candidates;
    for (const auto& [key, entry] : state.sealed) {
      total += entry.bytes;
      if (pinned.count(key) == 0 && entry.readers.expired()) {
        candidates.emplace_back(entry.last_used, key);
      }
    }
    std::sort(candidates.begin(), candidates.end());
    for (const auto& [last_used, key] : candidates) {
      const auto found = state.sealed.find(key);
      const absl::Duration age = now - last_used;
      const bool has_passed = passing.count(key) > 0 &&
                              found->second.was_read &&
                              age > state.options.passing_age;
      if (total <= limit && age <= state.options.max_age && !has_passed) {
        continue;
      }
      // Under the lock, so that no reader opens what is about to go.
      MOESCOPE_RETURN_IF_ERROR(
          internal::RemoveFile(state.files.SealedLog(key)));
      total -= found->second.bytes;
      report.dropped_bytes += found->second.bytes;
      report.dropped.push_back(key);
      ++state.stats.disk_evictions;
      state.memory.Erase(key);
      state.sealed.erase(found);
    }
    report.bytes_over_limit = std::max<std::int64_t>(0, total - limit);
  }
  if (!report.dropped.empty()) {
    MOESCOPE_RETURN_IF_ERROR(internal::SyncFolder(state.files.sealed_folder()));
  }
  return report;
}

ResultStoreStats ResultStore::stats() const {
  const MutexLock lock(state_->mutex);
  ResultStoreStats stats = state_->stats;
  stats.memory_evictions = state_->memory.evictions();
  stats.memory_bytes = state_->memory.bytes();
  stats.memory_entries = state_->memory.entries();
  stats.disk_entries = static_cast<std::int64_t>(state_->sealed.size());
  for (const auto& [key, entry] : state_->sealed) {
    stats.disk_bytes += entry.bytes;
  }
  return stats;
}

}  // namespace moescope
