#include <utility>
#include <vector>

#include "server/rpc/answer_internal.h"

namespace moescope::internal {
namespace {

absl::StatusOr<FoldableAnswer> ReadAll(ResultStream& stream,
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

}  // namespace

void AnnounceAnswer(const std::vector<const ResultStream*>& parts, Call& call) {
  bool cached = true;
  for (const ResultStream* const part : parts) {
    if (!part->cached()) {
      call.AddInitialMetadata("moescope-job-id", part->job_id());
      cached = false;
    }
  }
  call.AddInitialMetadata("moescope-cache", cached ? "hit" : "miss");
  // Before the first chunk: who waits for it can already cancel the job.
  call.SendInitialMetadata();
}

absl::StatusOr<std::optional<spec::Chunk>> NextChunk(ResultStream& stream,
                                                     const Call& call) {
  return call.WaitInSlices(
      [&](const RunContext& slice) { return stream.Next(slice); });
}

void CancelIfUnwanted(ResultStream& stream, const Call& call) {
  const absl::Status wanted = call.Check();
  if (absl::IsCancelled(wanted) || absl::IsDeadlineExceeded(wanted)) {
    stream.Cancel();
  }
}

absl::StatusOr<FoldableAnswer> ReadFoldable(ResultStream& stream,
                                            const Call& call) {
  absl::StatusOr<FoldableAnswer> answer = ReadAll(stream, call);
  if (!answer.ok()) {
    CancelIfUnwanted(stream, call);
  }
  return answer;
}

}  // namespace moescope::internal
