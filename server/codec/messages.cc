#include "moescope/codec/messages.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/codec/dtype_message_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"

namespace moescope::codec {
namespace {

using google::protobuf::Timestamp;

absl::StatusOr<spec::Document> ReadDocument(const v1::Document& message,
                                            const std::string& field) {
  spec::Document document;
  document.label = message.label();
  document.cut = message.cut();
  switch (message.content_case()) {
    case v1::Document::kText:
      document.text = message.text();
      break;
    case v1::Document::kTokens:
      document.tokens.emplace(message.tokens().ids().begin(),
                              message.tokens().ids().end());
      break;
    case v1::Document::CONTENT_NOT_SET:
      return InvalidField(field, "has neither text nor tokens");
  }
  if (message.text().empty() && message.tokens().ids().empty()) {
    return InvalidField(field, document.text.has_value() ? "text is empty"
                                                         : "tokens are empty");
  }
  return document;
}

}  // namespace

Timestamp ToTimestamp(absl::Time time) {
  Timestamp timestamp;
  const std::int64_t seconds = absl::ToUnixSeconds(time);
  timestamp.set_seconds(seconds);
  timestamp.set_nanos(static_cast<std::int32_t>(
      absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
  return timestamp;
}

absl::Time FromTimestamp(const Timestamp& timestamp) {
  return absl::FromUnixSeconds(timestamp.seconds()) +
         absl::Nanoseconds(timestamp.nanos());
}

namespace internal {

v1::DataType DTypeToMessage(spec::DType dtype) {
  switch (dtype) {
    case spec::DType::kFloat32:
      return v1::DATA_TYPE_FLOAT32;
    case spec::DType::kFloat64:
      return v1::DATA_TYPE_FLOAT64;
    case spec::DType::kInt64:
      return v1::DATA_TYPE_INT64;
  }
  return v1::DATA_TYPE_UNSPECIFIED;
}

absl::StatusOr<spec::DType> DTypeFromMessage(v1::DataType dtype) {
  switch (dtype) {
    case v1::DATA_TYPE_FLOAT32:
      return spec::DType::kFloat32;
    case v1::DATA_TYPE_FLOAT64:
      return spec::DType::kFloat64;
    case v1::DATA_TYPE_INT64:
      return spec::DType::kInt64;
    default:
      return absl::DataLossError(
          absl::StrCat("data type ", static_cast<int>(dtype), " is unknown"));
  }
}

}  // namespace internal

absl::StatusOr<spec::DocumentInput> InputFromMessage(const v1::Input& message) {
  spec::DocumentInput input;
  if (message.documents().empty()) {
    return InvalidField("input.documents", "is empty; give at least one");
  }
  if (message.sequence_tokens() < 0 || message.sequence_tokens() == 1) {
    return InvalidField("input.sequence_tokens",
                        absl::StrCat(message.sequence_tokens(),
                                     " is neither 0 nor at least 2"));
  }
  input.sequence_tokens = message.sequence_tokens();
  for (int i = 0; i < message.documents_size(); ++i) {
    MOESCOPE_ASSIGN_OR_RETURN(
        spec::Document document,
        ReadDocument(message.documents(i),
                     absl::StrCat("input.documents[", i, "]")));
    input.documents.push_back(std::move(document));
  }
  return input;
}

v1::Input ToMessage(const spec::DocumentInput& input) {
  v1::Input message;
  // More than a sequence can have is the same as any such number.
  constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
  message.set_sequence_tokens(
      static_cast<std::int32_t>(std::min(input.sequence_tokens, kMax)));
  for (const spec::Document& document : input.documents) {
    v1::Document& out = *message.add_documents();
    out.set_label(document.label);
    out.set_cut(document.cut);
    if (document.text.has_value()) {
      out.set_text(*document.text);
    } else if (document.tokens.has_value()) {
      out.mutable_tokens()->mutable_ids()->Assign(document.tokens->begin(),
                                                  document.tokens->end());
    }
  }
  return message;
}

v1::Array ToMessage(const spec::Array& array) {
  v1::Array message;
  message.set_name(array.name);
  message.set_dtype(internal::DTypeToMessage(array.dtype));
  message.mutable_shape()->Assign(array.shape.begin(), array.shape.end());
  message.set_data(array.bytes);
  return message;
}

absl::StatusOr<spec::Array> ArrayFromMessage(v1::Array message) {
  spec::Array array;
  array.name = std::move(*message.mutable_name());
  MOESCOPE_ASSIGN_OR_RETURN(array.dtype,
                            internal::DTypeFromMessage(message.dtype()));
  array.shape.assign(message.shape().begin(), message.shape().end());
  array.bytes = std::move(*message.mutable_data());
  if (absl::Status status = array.Validate(); !status.ok()) {
    return absl::DataLossError(status.message());
  }
  return array;
}

v1::Provenance ToMessage(const spec::Provenance& provenance) {
  v1::Provenance message;
  message.set_analysis(provenance.analysis);
  message.set_analysis_version(provenance.analysis_version);
  message.mutable_models()->Assign(provenance.models.begin(),
                                   provenance.models.end());
  message.mutable_model_identities()->Assign(
      provenance.model_identities.begin(), provenance.model_identities.end());
  message.set_spec_json(provenance.spec_json);
  message.set_tokens_digest(provenance.tokens_digest);
  message.set_numerics_class(provenance.numerics_class);
  message.set_routing(provenance.routing);
  for (const auto& [name, version] : provenance.versions) {
    v1::LibraryVersion& out = *message.add_versions();
    out.set_name(name);
    out.set_version(version);
  }
  *message.mutable_start_time() = ToTimestamp(provenance.started);
  if (provenance.finished != absl::UnixEpoch()) {
    *message.mutable_end_time() = ToTimestamp(provenance.finished);
  }
  return message;
}

spec::Provenance ProvenanceFromMessage(const v1::Provenance& message) {
  spec::Provenance provenance;
  provenance.analysis = message.analysis();
  provenance.analysis_version = message.analysis_version();
  provenance.models.assign(message.models().begin(), message.models().end());
  provenance.model_identities.assign(message.model_identities().begin(),
                                     message.model_identities().end());
  provenance.spec_json = message.spec_json();
  provenance.tokens_digest = message.tokens_digest();
  provenance.numerics_class = message.numerics_class();
  provenance.routing = message.routing();
  for (const v1::LibraryVersion& version : message.versions()) {
    provenance.versions[version.name()] = version.version();
  }
  // An absent time reads as zero: the Unix epoch.
  provenance.started = FromTimestamp(message.start_time());
  provenance.finished = FromTimestamp(message.end_time());
  return provenance;
}

v1::AnalysisInfo ToMessage(const spec::AnalysisInfo& info) {
  v1::AnalysisInfo message;
  message.set_name(info.name);
  message.set_version(info.version);
  message.set_summary(info.summary);
  message.set_definition(info.definition);
  message.set_source(info.source);
  message.set_needs_tokens(info.needs_tokens);
  message.set_needs_forward(info.needs_forward);
  message.set_needs_moe(info.needs_moe);
  for (const spec::ParameterInfo& parameter : info.parameters) {
    v1::AnalysisParameter& out = *message.add_parameters();
    out.set_name(parameter.name);
    out.set_type(parameter.type);
    out.set_default_json(parameter.default_value);
    out.set_meaning(parameter.meaning);
  }
  for (const spec::ArrayDeclaration& array : info.schema.arrays) {
    v1::ArrayDeclaration& out = *message.add_arrays();
    out.set_pattern(array.pattern);
    out.set_dtype(internal::DTypeToMessage(array.dtype));
    out.mutable_shape()->Assign(array.shape.begin(), array.shape.end());
    out.set_unit(array.unit);
    out.set_meaning(array.meaning);
  }
  return message;
}

spec::AnalysisInfo AnalysisInfoFromMessage(const v1::AnalysisInfo& message) {
  spec::AnalysisInfo info;
  info.name = message.name();
  info.version = message.version();
  info.summary = message.summary();
  info.definition = message.definition();
  info.source = message.source();
  info.needs_tokens = message.needs_tokens();
  info.needs_forward = message.needs_forward();
  info.needs_moe = message.needs_moe();
  for (const v1::AnalysisParameter& parameter : message.parameters()) {
    info.parameters.push_back({parameter.name(), parameter.type(),
                               parameter.default_json(), parameter.meaning()});
  }
  for (const v1::ArrayDeclaration& array : message.arrays()) {
    info.schema.arrays.push_back({array.pattern(),
                                  internal::DTypeFromMessage(array.dtype())
                                      .value_or(spec::DType::kFloat64),
                                  {array.shape().begin(), array.shape().end()},
                                  array.unit(),
                                  array.meaning()});
  }
  return info;
}

}  // namespace moescope::codec
