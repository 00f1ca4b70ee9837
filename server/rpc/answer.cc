#include <utility>
#include <vector>

#include "server/rpc/answer_internal.h"

namespace moescope::internal {

void AnnounceAnswer(const std::vector<const ResultStream*>& parts, Call& call) {
  bool cached = true;
  for (const ResultStream* const part : parts) {
    if (!part->cached()) {
      call.AddInitialMetadata("moescope-job-id", part->job_id());
      cached = false;
    }
  }
  call.AddInitialMetadata("moescope-cache", cached ? "hit" : "miss");
  if (!cached) {
    // Before the first chunk: who waits for it can already cancel the job.
    call.SendInitialMetadata();
  }
}

absl::StatusOr<std::optional<spec::Chunk>> NextChunk(ResultStream& stream,
                                                     const Call& call) {
  return call.WaitInSlices(
      [&](const RunContext& slice) { return stream.Next(slice); });
}

absl::StatusOr<FoldableAnswer> ReadFoldable(ResultStream& stream,
                                            const Call& call) {
  FoldableAnswer answer;
  std::int64_t bytes = 0;
  for (;;) {
    MOESCOPE_ASSIGN_OR_RETURN(std::optional<spec::Chunk> chunk,
                              NextChunk(stream, call));
    if (!chunk.has_value()) {
      break;
    }
    for (const spec::Array& array : chunk->arrays) {
      bytes += static_cast<std::int64_t>(array.bytes.size());
    }
    if (bytes > codec::kMaxUnaryReplyBytes) {
      answer.too_large = true;
      answer.chunks.clear();
    } else {
      answer.chunks.push_back(*std::move(chunk));
    }
  }
  MOESCOPE_ASSIGN_OR_RETURN(answer.result, stream.Info());
  return answer;
}

}  // namespace moescope::internal
