#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"

namespace moescope {

/// A model that holds memory, as the policy sees it.
struct ResidentModel {
  std::string name;
  std::int64_t bytes = 0;
  /// Handles on it and, while it is loading, those that wait for it.
  int pins = 0;
  absl::Time loaded_at;
  absl::Time last_used;
};

/// What to do so that a model fits.
struct EvictionPlan {
  bool fits = false;
  /// Free now: the budget less what all residents hold; may be negative.
  std::int64_t available_bytes = 0;
  /// Names to evict first, least recently used first; empty unless `fits`.
  std::vector<std::string> evict;
  /// When it does not fit: names that would have to go but may not (pinned or
  /// too young) or would not suffice alone, least recently used first. Empty
  /// when even an empty device is too small.
  std::vector<std::string> would_have_to_go;
};

/// Decides which of `residents` make room for `needed_bytes` within
/// `budget_bytes`: least recently used first (ties: by name), never one with
/// pins, never one loaded less than `minimum_residence` ago, and none whose
/// bytes the others already make unnecessary. Pure: depends on its arguments
/// alone.
EvictionPlan PlanEviction(absl::Span<const ResidentModel> residents,
                          std::int64_t needed_bytes, std::int64_t budget_bytes,
                          absl::Duration minimum_residence, absl::Time now);

}  // namespace moescope
