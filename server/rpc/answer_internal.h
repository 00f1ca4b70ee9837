#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "moescope/codec/messages.h"
#include "moescope/service/result_stream.h"
#include "moescope/spec/array.h"
#include "server/rpc/call_internal.h"
#include "server/rpc/messages_internal.h"

namespace moescope::internal {

/// Tells the caller about the answer before the answer: metadata
/// `moescope-job-id`, once per part that a job makes, and `moescope-cache`: hit
/// where no part needs one, else miss.
void AnnounceAnswer(const std::vector<const ResultStream*>& parts, Call& call);

/// The next chunk, or nullopt after the last; also ends when the caller leaves
/// or the server stops.
absl::StatusOr<std::optional<spec::Chunk>> NextChunk(ResultStream& stream,
                                                     const Call& call);

/// All chunks, while they fit in a unary reply. Read to the end in any case,
/// so that the result is complete under its name. A caller who left is no
/// cancellation: asked again within the grace, the same work goes on.
struct FoldableAnswer {
  std::vector<spec::Chunk> chunks;
  bool too_large = false;
  ResultView result;
};
absl::StatusOr<FoldableAnswer> ReadFoldable(ResultStream& stream,
                                            const Call& call);

/// Sends every chunk in slices, then the result's header. A dropped stream is
/// no cancellation: the caller may come back through ReadResult.
template <class Response>
absl::Status SendAnswer(ResultStream& stream, const Call& call,
                        const Send<Response>& send) {
  // Room for what a message is wrapped in.
  constexpr std::int64_t kMaxBytes = codec::kMaxSliceBytes - 64;
  for (;;) {
    const std::int64_t number = stream.next_chunk();
    MOESCOPE_ASSIGN_OR_RETURN(const std::optional<spec::Chunk> chunk,
                              NextChunk(stream, call));
    if (!chunk.has_value()) {
      break;
    }
    MOESCOPE_RETURN_IF_ERROR(codec::ForEachSlice(
        *chunk, number, kMaxBytes, [&](const v1::ResultSlice& slice) {
          Response response;
          *response.mutable_slice() = slice;
          return send(response);
        }));
  }
  MOESCOPE_ASSIGN_OR_RETURN(const ResultView view, stream.Info());
  Response response;
  *response.mutable_result() = ToMessage(view);
  return send(response);
}

}  // namespace moescope::internal
