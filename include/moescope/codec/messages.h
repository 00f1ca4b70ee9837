#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "google/protobuf/timestamp.pb.h"

#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/array.h"
#include "moescope/spec/document_input.h"
#include "moescope/spec/provenance.h"
#include "moescope/spec/schema.h"
#include "moescope/v1/analysis.pb.h"
#include "moescope/v1/analysis_spec.pb.h"
#include "moescope/v1/array.pb.h"
#include "moescope/v1/input.pb.h"
#include "moescope/v1/result.pb.h"

namespace moescope::codec {

// Specs, chunks and what belongs to them as messages of moescope.v1, and back.
// Threads: all functions are safe; a ChunkAssembler belongs to one thread.

/// A wire message that carries a slice is at most so long.
inline constexpr std::int64_t kMaxSliceBytes = std::int64_t{1} << 20;
/// A unary reply is at most so long; stock clients stop at 4 MiB.
inline constexpr std::int64_t kMaxUnaryReplyBytes = std::int64_t{3} << 20;

google::protobuf::Timestamp ToTimestamp(absl::Time time);
absl::Time FromTimestamp(const google::protobuf::Timestamp& timestamp);

/// Spec to message. Every field is written, defaults included.
v1::AnalysisSpec ToMessage(const spec::AnalysisSpec& spec);

/// Message to Spec: fields that are absent, and empty lists, get the default.
/// `message` is a v1::AnalysisSpec or the message of one Spec.
/// Errors: INVALID_ARGUMENT, field "spec" (no analysis is chosen), or INTERNAL
/// for any other message.
absl::StatusOr<spec::AnalysisSpec> SpecFromMessage(
    const google::protobuf::Message& message);

/// The input of a request. Errors: INVALID_ARGUMENT, field "input.documents"
/// (none), "input.documents[i]" (neither text nor tokens, or empty),
/// "input.sequence_tokens" (negative, or 1).
absl::StatusOr<spec::DocumentInput> InputFromMessage(const v1::Input& message);
v1::Input ToMessage(const spec::DocumentInput& input);

v1::Array ToMessage(const spec::Array& array);
/// Errors: DATA_LOSS (unknown dtype, bytes that do not fit the shape).
absl::StatusOr<spec::Array> ArrayFromMessage(v1::Array message);

v1::Provenance ToMessage(const spec::Provenance& provenance);
spec::Provenance ProvenanceFromMessage(const v1::Provenance& message);

/// `models` of the message stays empty.
v1::AnalysisInfo ToMessage(const spec::AnalysisInfo& info);
spec::AnalysisInfo AnalysisInfoFromMessage(const v1::AnalysisInfo& message);

/// Hands chunk `number` to `send` as slices, each a message of at most
/// `max_bytes`, one in memory at a time; the last has `last_of_chunk`. Stops at
/// the first error of `send` and returns it. Array names are taken to be short
/// against `max_bytes`; at least one byte of data is sent per slice.
absl::Status ForEachSlice(
    const spec::Chunk& chunk, std::int64_t number, std::int64_t max_bytes,
    const std::function<absl::Status(const v1::ResultSlice&)>& send);

/// Puts slices together again, for a reader that starts at any chunk and may
/// lose the stream in the middle of one.
class ChunkAssembler {
 public:
  /// Expects chunk `first_chunk` first.
  explicit ChunkAssembler(std::int64_t first_chunk = 0) : next_(first_chunk) {}

  /// Takes the next slice; gives the chunk that it completes, if it does.
  /// Errors: DATA_LOSS (another chunk than expected, a gap between slices, an
  /// array that does not fit its shape). Memory grows with the bytes received,
  /// not with what a slice claims.
  absl::StatusOr<std::optional<spec::Chunk>> Add(v1::ResultSlice slice);

  /// Drops an incomplete chunk, for a stream that begins again at
  /// next_chunk().
  void Restart();

  /// The number of the first chunk that is not complete yet.
  std::int64_t next_chunk() const { return next_; }
  /// Whether slices of an incomplete chunk have come.
  bool in_chunk() const { return !chunk_.arrays.empty(); }

 private:
  absl::Status AddArray(v1::ArraySlice& slice);

  std::int64_t next_;
  spec::Chunk chunk_;
};

/// The typed replies of the direct calls: fills `layers` from the complete
/// result of the normalised `spec`. Who takes part in a matrix is told by its
/// size: all participants of the Spec, or the routed ones alone. Where both "S"
/// and "F" take part in the Spec and one in the matrix, the result must hold
/// "layer.{layer}.{level}_participants" (int64 [N]; spec::kSharedParticipant,
/// spec::kBaselineParticipant), which is believed wherever it is there. Arrays
/// of more than a reply holds (kMaxUnaryReplyBytes less room for the header)
/// set `too_large` instead. The caller adds the headers. Errors: INTERNAL (an
/// array that does not belong there, participants that can't be told),
/// DATA_LOSS (parts that do not fit together).
absl::StatusOr<v1::ComputeExpertSimilarityResponse> FoldExpertSimilarity(
    const spec::ExpertSimilaritySpec& spec, std::vector<spec::Chunk> chunks);

/// `activations` is empty where none were asked for. Rows of weight statistics
/// as in FoldExpertSimilarity, with "layer.{layer}.weights_participants".
absl::StatusOr<v1::ComputeNeuronStatisticsResponse> FoldNeuronStatistics(
    const spec::NeuronWeightStatisticsSpec& spec,
    std::vector<spec::Chunk> weights, std::vector<spec::Chunk> activations);

}  // namespace moescope::codec
