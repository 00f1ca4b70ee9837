#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "moescope/numerics/activation_accumulator.h"
#include "server/numerics/activation_kernels_internal.h"

namespace moescope::numerics {

/// All that an accumulator knows.
struct ActivationAccumulator::State {
  explicit State(ActivationOptions given);

  std::int64_t bins() const {
    return options.histogram_edges.empty()
               ? 0
               : static_cast<std::int64_t>(options.histogram_edges.size()) + 1;
  }

  /// Calls visit(array) for each array in a fixed order.
  template <typename Self, typename Visitor>
  static void ForEachArray(Self& self, const Visitor& visit) {
    for (auto& plane : self.planes) {
      visit(plane);
    }
    for (auto* counts :
         {&self.tokens, &self.routed_tokens, &self.over, &self.over_routed,
          &self.near_threshold, &self.nonfinite, &self.histogram,
          &self.top_tokens}) {
      visit(*counts);
    }
    visit(self.top_values);
  }

  std::string Serialize() const;
  /// Replaces the arrays. Errors: DATA_LOSS.
  absl::Status Load(absl::string_view bytes);

  ActivationOptions options;
  std::array<std::vector<double>, internal::kNumPlanes> planes;  // [E, F]
  std::vector<std::int64_t> tokens;                              // [E]
  std::vector<std::int64_t> routed_tokens;                       // [E]
  std::vector<std::int64_t> over;                                // [E, H]
  std::vector<std::int64_t> over_routed;                         // [E, H]
  std::vector<std::int64_t> near_threshold;                      // [E]
  std::vector<std::int64_t> nonfinite;                           // [E]
  std::vector<std::int64_t> histogram;                           // [E, B + 2]
  /// Best first; -inf and -1 where still empty.
  std::vector<std::int64_t> top_tokens;  // [E, F, n]
  std::vector<float> top_values;         // [E, F, n]
};

}  // namespace moescope::numerics
