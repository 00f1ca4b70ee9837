#pragma once

#include <cstdint>
#include <string>

namespace moescope {

/// What this process runs on. What the system does not tell is empty or 0.
struct Machine {
  std::string processor;  ///< "Intel(R) Xeon(R) ...".
  std::int64_t memory_bytes = 0;  ///< As MemoryLimitBytes.
  std::int64_t free_memory_bytes = 0;  ///< Available without swapping.
};

/// Threads: safe.
Machine DescribeMachine();

}  // namespace moescope
