#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/spec/array.h"

namespace moescope::analysis::internal {

/// Hands chunks on to the sink, but for the first ones, which a log has
/// already. Threads: one call at a time.
class ChunkEmitter {
 public:
  ChunkEmitter(const ResumePoint& resume, ChunkSink& sink)
      : kept_(resume.chunks), sink_(sink) {}

  /// Whether the next chunk is missing; if not, Skip it without making it.
  bool wanted() const { return next_ >= kept_; }
  void Skip() { ++next_; }
  absl::Status Emit(spec::Chunk chunk);

 private:
  const std::int64_t kept_;
  ChunkSink& sink_;
  std::int64_t next_ = 0;
};

/// "layer.<layer>.<rest>".
std::string LayerName(std::int64_t layer, absl::string_view rest);

/// Values computed in fp64 that leave as fp32: matrices and per-neuron values.
spec::Array MakeFloat32(std::string name, std::vector<std::int64_t> shape,
                        absl::Span<const double> values);

}  // namespace moescope::analysis::internal
