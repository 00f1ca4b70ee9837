#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace moescope::client {

/// The first of `known` that the fewest edits make of `word`: letters left out,
/// put in or replaced, at most 2 and fewer than `word` has. Empty: none.
std::string NearWord(absl::string_view word,
                     const std::vector<std::string>& known);

}  // namespace moescope::client
