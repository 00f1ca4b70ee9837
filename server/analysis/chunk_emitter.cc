#include <utility>

#include "absl/strings/str_cat.h"
#include "server/analysis/chunk_emitter_internal.h"

namespace moescope::analysis::internal {

absl::Status ChunkEmitter::Emit(spec::Chunk chunk) {
  const bool missing = wanted();
  ++next_;
  return missing ? sink_.Emit(std::move(chunk)) : absl::OkStatus();
}

std::string LayerName(std::int64_t layer, absl::string_view rest) {
  return absl::StrCat("layer.", layer, ".", rest);
}

spec::Array MakeFloat32(std::string name, std::vector<std::int64_t> shape,
                        absl::Span<const double> values) {
  std::vector<float> narrow;
  narrow.reserve(values.size());
  for (const double value : values) {
    narrow.push_back(static_cast<float>(value));
  }
  return spec::MakeArray(std::move(name), std::move(shape),
                         absl::MakeConstSpan(narrow));
}

}  // namespace moescope::analysis::internal
