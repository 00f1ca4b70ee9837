#include <cstddef>

#include "server/analysis/token_blocks_internal.h"

namespace moescope::analysis::internal {

std::vector<TokenBlock> CutIntoBlocks(const spec::TokenInput& input,
                                      std::int64_t block_tokens) {
  const absl::Span<const std::int32_t> ids(input.ids);
  const absl::Span<const std::int64_t> lengths(input.lengths);
  std::vector<TokenBlock> blocks;
  std::size_t token = 0;
  for (std::size_t first = 0; first < lengths.size();) {
    std::size_t end = first + 1;
    std::int64_t tokens = lengths[first];
    while (end < lengths.size() && tokens + lengths[end] <= block_tokens) {
      tokens += lengths[end++];
    }
    const auto count = static_cast<std::size_t>(tokens);
    blocks.push_back({static_cast<std::int64_t>(token),
                      ids.subspan(token, count),
                      lengths.subspan(first, end - first)});
    token += count;
    first = end;
  }
  return blocks;
}

}  // namespace moescope::analysis::internal
