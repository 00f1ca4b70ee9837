#include "moescope/base/page_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace moescope {

double CachedShare(absl::string_view mapped, std::size_t wanted) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(mapped.data());
  const std::uintptr_t first = begin / page * page;
  const std::size_t pages = (begin + mapped.size() - first + page - 1) / page;
  const std::size_t samples = std::min(wanted, pages);
  std::size_t cached = 0;
  for (std::size_t i = 0; i < samples; ++i) {
    void* const address =
        reinterpret_cast<void*>(first + pages * i / samples * page);
    unsigned char state = 1;
    cached += mincore(address, page, &state) != 0 || (state & 1U) != 0 ? 1 : 0;
  }
  return samples == 0
             ? 1
             : static_cast<double>(cached) / static_cast<double>(samples);
}

}  // namespace moescope
