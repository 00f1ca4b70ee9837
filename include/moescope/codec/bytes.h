#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/array.h"
#include "moescope/spec/provenance.h"

namespace moescope::codec {

// What is hashed and what is stored. Threads: all functions are safe.

/// The bytes of a normalised Spec that enter a result's key: equal for equal
/// questions, different for different ones, and the same for ever (golden
/// tests). Protobuf promises none of that, so it is never hashed.
///
/// Encoding: text(analysis name), u64(version), u64(number of fields), then
/// every field in the order of VisitFields: text(name), a tag byte, the value.
///   'b' bool, one byte            'i' int64, u64 of its bits
///   'd' double, u64 of its IEEE 754 bits, -0 as 0
///   's' string, text              'I' 'D' 'S' lists: u64(count), the values
///   't' token input, text(TokensDigest)
///   'm' model name, one byte: whether there is one
/// u64 is 8 bytes little-endian; text is u64(length) and the bytes.
///
/// Excluded: names of models. What a name stands for changes, so the key takes
/// the models' identities, in the order of spec::ModelNames, beside these
/// bytes.
std::string CanonicalBytes(const spec::AnalysisSpec& spec);

/// A Spec as it is stored with a job, token ids included, and back.
/// Errors: DATA_LOSS for bytes that EncodeSpec can't have made.
std::string EncodeSpec(const spec::AnalysisSpec& spec);
absl::StatusOr<spec::AnalysisSpec> DecodeSpec(absl::string_view bytes);

/// One record of a result's log, and back. Equal chunks give equal bytes.
/// Errors: DATA_LOSS (malformed, or an array whose bytes do not fit its shape).
std::string EncodeChunk(const spec::Chunk& chunk);
absl::StatusOr<spec::Chunk> DecodeChunk(absl::string_view bytes);

/// Provenance as it is stored beside a log, and back. Times keep nanoseconds;
/// a `finished` at the Unix epoch is read as "not finished".
/// Errors: DATA_LOSS.
std::string EncodeProvenance(const spec::Provenance& provenance);
absl::StatusOr<spec::Provenance> DecodeProvenance(absl::string_view bytes);

}  // namespace moescope::codec
