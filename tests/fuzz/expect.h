#pragma once

#include <cstdio>
#include <cstdlib>
#include <initializer_list>

#include "absl/status/status.h"

namespace moescope::fuzz {

/// Ends the program, so that the input at hand is kept, unless `holds`.
inline void Expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

/// The codes that a file may be refused with: what it says is wrong, or it asks
/// for what we do not have. INTERNAL, say, would be our own mistake.
inline void ExpectRefusal(const absl::Status& status,
                          std::initializer_list<absl::StatusCode> codes) {
  for (const absl::StatusCode code : codes) {
    if (status.code() == code && !status.message().empty()) return;
  }
  std::fprintf(stderr, "refused as %s\n", status.ToString().c_str());
  std::abort();
}

}  // namespace moescope::fuzz

/// libFuzzer's entry point, which every target defines; replay_main.cc calls
/// it too.
extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data,
                                      std::size_t size);
