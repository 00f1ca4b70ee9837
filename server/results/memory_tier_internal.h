#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"

#include "moescope/results/result_log.h"

namespace moescope::internal {

/// Whole logs in memory, least recently used ones dropped first. Bytes handed
/// out stay valid for who holds them.
/// Threads: one at a time.
class MemoryTier {
 public:
  explicit MemoryTier(std::int64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  /// Whether a log of `bytes` is kept at all: one may not push out the rest.
  bool Admits(std::int64_t bytes) const { return bytes <= limit_bytes_ / 8; }
  /// The log of `key`, when it is the one of `extent`; nullptr otherwise.
  std::shared_ptr<const std::string> Lookup(absl::string_view key,
                                            const LogExtent& extent);
  /// Keeps the log when Admits says so, in place of an earlier one.
  void Insert(absl::string_view key, const LogExtent& extent,
              std::shared_ptr<const std::string> bytes);
  void Erase(absl::string_view key);

  std::int64_t bytes() const { return bytes_; }
  std::int64_t entries() const { return static_cast<std::int64_t>(index_.size()); }
  std::int64_t evictions() const { return evictions_; }

 private:
  struct Entry {
    std::string key;
    LogExtent extent;
    std::shared_ptr<const std::string> bytes;
  };

  const std::int64_t limit_bytes_;
  std::list<Entry> order_;  // Most recently used first.
  std::map<std::string, std::list<Entry>::iterator, std::less<>> index_;
  std::int64_t bytes_ = 0;
  std::int64_t evictions_ = 0;
};

}  // namespace moescope::internal
