#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "moescope/numerics/assignment.h"

namespace moescope::numerics {

/// The least cost of a complete matching, by the plain O(n³) method with
/// potentials (Kuhn, Munkres), in 64-bit integers.
inline std::int64_t PlainLeastCost(const SimilarityMatrix& matrix) {
  constexpr std::int64_t kFar = std::numeric_limits<std::int64_t>::max();
  const std::int64_t n = matrix.size();
  const auto places = static_cast<std::size_t>(n + 1);
  std::vector<std::int64_t> u(places);
  std::vector<std::int64_t> v(places);
  std::vector<std::size_t> match(places);
  std::vector<std::size_t> way(places);
  for (std::size_t i = 1; i < places; ++i) {
    match[0] = i;
    std::size_t j0 = 0;
    std::vector<std::int64_t> least(places, kFar);
    std::vector<char> used(places);
    do {
      used[j0] = 1;
      const std::size_t i0 = match[j0];
      std::int64_t delta = kFar;
      std::size_t j1 = 0;
      for (std::size_t j = 1; j < places; ++j) {
        if (used[j] == 0) {
          const std::int64_t reduced =
              matrix.cost(static_cast<std::int64_t>(i0 - 1),
                          static_cast<std::int64_t>(j - 1)) -
              u[i0] - v[j];
          if (reduced < least[j]) {
            least[j] = reduced;
            way[j] = j0;
          }
          if (least[j] < delta) {
            delta = least[j];
            j1 = j;
          }
        }
      }
      for (std::size_t j = 0; j < places; ++j) {
        if (used[j] != 0) {
          u[match[j]] += delta;
          v[j] -= delta;
        } else if (j > 0) {
          least[j] -= delta;
        }
      }
      j0 = j1;
    } while (match[j0] != 0);
    do {
      const std::size_t j1 = way[j0];
      match[j0] = match[j1];
      j0 = j1;
    } while (j0 != 0);
  }
  std::int64_t total = 0;
  for (std::size_t j = 1; j < places; ++j) {
    total += matrix.cost(static_cast<std::int64_t>(match[j] - 1),
                         static_cast<std::int64_t>(j - 1));
  }
  return total;
}

}  // namespace moescope::numerics
