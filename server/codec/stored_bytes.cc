#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/codec/spec_message_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/codec/bytes.h"
#include "moescope/codec/messages.h"

namespace moescope::codec {
namespace {

using google::protobuf::Message;

absl::Status Parse(absl::string_view what, absl::string_view bytes,
                   Message& message) {
  if (bytes.size() > std::numeric_limits<int>::max() ||
      !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::DataLossError(absl::StrCat("stored ", what, ": ", bytes.size(),
                                            " bytes are no ",
                                            message.GetDescriptor()->name()));
  }
  return absl::OkStatus();
}

// A field that is not known here changes the meaning of the rest.
absl::Status RefuseUnknownFields(absl::string_view what,
                                 const Message& message) {
  if (!message.GetReflection()->GetUnknownFields(message).empty()) {
    return absl::DataLossError(
        absl::StrCat("stored ", what, ": ", message.GetDescriptor()->name(),
                     " has fields that this version does not know"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string EncodeSpec(const spec::AnalysisSpec& spec) {
  return ToMessage(spec).SerializeAsString();
}

absl::StatusOr<spec::AnalysisSpec> DecodeSpec(absl::string_view bytes) {
  v1::AnalysisSpec message;
  MOESCOPE_RETURN_IF_ERROR(Parse("spec", bytes, message));
  MOESCOPE_RETURN_IF_ERROR(RefuseUnknownFields("spec", message));
  const auto* chosen = message.GetReflection()->GetOneofFieldDescriptor(
      message, v1::AnalysisSpec::descriptor()->oneof_decl(0));
  if (chosen == nullptr) {
    return absl::DataLossError("stored spec: names no analysis");
  }
  const Message& alternative =
      message.GetReflection()->GetMessage(message, chosen);
  MOESCOPE_RETURN_IF_ERROR(RefuseUnknownFields("spec", alternative));
  return internal::ReadSpec(alternative, internal::EmptyList::kEmpty);
}

std::string EncodeChunk(const spec::Chunk& chunk) {
  v1::Chunk message;
  for (const spec::Array& array : chunk.arrays) {
    *message.add_arrays() = ToMessage(array);
  }
  return message.SerializeAsString();
}

absl::StatusOr<spec::Chunk> DecodeChunk(absl::string_view bytes) {
  v1::Chunk message;
  MOESCOPE_RETURN_IF_ERROR(Parse("chunk", bytes, message));
  MOESCOPE_RETURN_IF_ERROR(RefuseUnknownFields("chunk", message));
  spec::Chunk chunk;
  chunk.arrays.reserve(static_cast<std::size_t>(message.arrays_size()));
  for (v1::Array& array : *message.mutable_arrays()) {
    MOESCOPE_RETURN_IF_ERROR(RefuseUnknownFields("chunk", array));
    MOESCOPE_ASSIGN_OR_RETURN(spec::Array decoded,
                              ArrayFromMessage(std::move(array)));
    chunk.arrays.push_back(std::move(decoded));
  }
  return chunk;
}

std::string EncodeProvenance(const spec::Provenance& provenance) {
  return ToMessage(provenance).SerializeAsString();
}

absl::StatusOr<spec::Provenance> DecodeProvenance(absl::string_view bytes) {
  v1::Provenance message;
  MOESCOPE_RETURN_IF_ERROR(Parse("provenance", bytes, message));
  return ProvenanceFromMessage(message);
}

}  // namespace moescope::codec
