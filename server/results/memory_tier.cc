#include "server/results/memory_tier_internal.h"

#include <utility>

namespace moescope::internal {

std::shared_ptr<const std::string> MemoryTier::Lookup(absl::string_view key,
                                                      const LogExtent& extent) {
  const auto found = index_.find(std::string(key));
  if (found == index_.end() || found->second->extent != extent) {
    return nullptr;
  }
  order_.splice(order_.begin(), order_, found->second);
  return found->second->bytes;
}

void MemoryTier::Insert(absl::string_view key, const LogExtent& extent,
                        std::shared_ptr<const std::string> bytes) {
  Erase(key);
  const auto size = static_cast<std::int64_t>(bytes->size());
  if (!Admits(size)) {
    return;
  }
  order_.push_front({std::string(key), extent, std::move(bytes)});
  index_.emplace(std::string(key), order_.begin());
  bytes_ += size;
  while (bytes_ > limit_bytes_) {
    // By value: Erase destroys the entry that the name belongs to.
    const std::string oldest = order_.back().key;
    Erase(oldest);
    ++evictions_;
  }
}

void MemoryTier::Erase(absl::string_view key) {
  const auto found = index_.find(std::string(key));
  if (found == index_.end()) {
    return;
  }
  bytes_ -= static_cast<std::int64_t>(found->second->bytes->size());
  order_.erase(found->second);
  index_.erase(found);
}

}  // namespace moescope::internal
