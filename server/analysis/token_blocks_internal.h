#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "moescope/spec/token_input.h"

namespace moescope::analysis::internal {

/// Consecutive whole sequences that go through the model together.
struct TokenBlock {
  std::int64_t first_token = 0;
  absl::Span<const std::int32_t> ids;
  absl::Span<const std::int64_t> lengths;

  std::int64_t num_tokens() const {
    return static_cast<std::int64_t>(ids.size());
  }
};

/// Cuts `input` greedily into blocks of at most `block_tokens` tokens; a longer
/// sequence is a block of its own. The views are into `input`.
std::vector<TokenBlock> CutIntoBlocks(const spec::TokenInput& input,
                                      std::int64_t block_tokens);

}  // namespace moescope::analysis::internal
