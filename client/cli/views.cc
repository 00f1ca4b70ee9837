#include "client/cli/views.h"

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "client/cli/progress.h"
#include "client/cli/table.h"

#include "moescope/base/byte_size.h"

namespace moescope::client {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// MODEL_STATE_LOADED, prefix MODEL_STATE_: "loaded".
std::string Word(const std::string& value, absl::string_view prefix) {
  const std::string_view rest =
      absl::StartsWith(value, prefix)
          ? std::string_view(value).substr(prefix.size())
          : std::string_view(value);
  return absl::AsciiStrToLower(absl::string_view(rest.data(), rest.size()));
}

std::string TimeText(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC",
                          absl::FromUnixSeconds(time.seconds()),
                          absl::UTCTimeZone());
}

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) +
         absl::Nanoseconds(time.nanos());
}

std::string EnumText(const google::protobuf::EnumValueDescriptor& value) {
  // Values begin with their type's name, JobState as JOB_STATE_.
  std::string prefix;
  for (const char c : value.type()->name()) {
    if (absl::ascii_isupper(static_cast<unsigned char>(c)) && !prefix.empty()) {
      prefix.push_back('_');
    }
    prefix.push_back(absl::ascii_toupper(static_cast<unsigned char>(c)));
  }
  return Word(value.name(), prefix + "_");
}

std::string NumberText(const std::string& name, std::int64_t value) {
  return absl::EndsWith(name, "_bytes") ? FormatByteSize(value)
                                        : absl::StrCat(value);
}

// A singular field (`index` < 0) or one element of a repeated one.
std::string ScalarText(const Message& message, const FieldDescriptor& field,
                       int index) {
  const auto& r = *message.GetReflection();
  const auto* f = &field;
  const bool many = index >= 0;
  if (field.full_name() == "moescope.v1.JobError.code") {
    return absl::StatusCodeToString(
        static_cast<absl::StatusCode>(r.GetInt32(message, f)));
  }
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return NumberText(field.name(),
                        many ? r.GetRepeatedInt32(message, f, index)
                             : r.GetInt32(message, f));
    case FieldDescriptor::CPPTYPE_INT64:
      return NumberText(field.name(),
                        many ? r.GetRepeatedInt64(message, f, index)
                             : r.GetInt64(message, f));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return absl::StrFormat("%.6g",
                             many ? r.GetRepeatedDouble(message, f, index)
                                  : r.GetDouble(message, f));
    case FieldDescriptor::CPPTYPE_BOOL:
      return (many ? r.GetRepeatedBool(message, f, index)
                   : r.GetBool(message, f))
                 ? "yes"
                 : "no";
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumText(many ? *r.GetRepeatedEnum(message, f, index)
                           : *r.GetEnum(message, f));
    case FieldDescriptor::CPPTYPE_STRING:
      return Visible(many ? r.GetRepeatedString(message, f, index)
                          : r.GetString(message, f));
    default:
      return "";
  }
}

void AppendMessage(const Message& message, const std::string& indent,
                   std::string& out);

std::string DurationText(const google::protobuf::Duration& duration) {
  return absl::FormatDuration(absl::Seconds(duration.seconds()) +
                              absl::Nanoseconds(duration.nanos()));
}

bool IsFlat(const Message& message) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  return std::none_of(fields.begin(), fields.end(),
                      [](const FieldDescriptor* field) {
                        return field->is_repeated() ||
                               field->cpp_type() ==
                                   FieldDescriptor::CPPTYPE_MESSAGE;
                      });
}

// Members that hold scalars alone as a table, a column per field of the type.
bool AppendAsTable(const Message& message, const FieldDescriptor& field,
                   const std::string& indent, std::string& out) {
  const auto& reflection = *message.GetReflection();
  std::vector<std::string> header;
  for (int i = 0; i < field.message_type()->field_count(); ++i) {
    header.push_back(field.message_type()->field(i)->name());
  }
  Table table(header);
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    const Message& member = reflection.GetRepeatedMessage(message, &field, i);
    if (!IsFlat(member)) return false;
    std::vector<std::string> row;
    for (int j = 0; j < field.message_type()->field_count(); ++j) {
      const FieldDescriptor& cell = *field.message_type()->field(j);
      row.push_back(cell.is_repeated() || cell.cpp_type() ==
                                              FieldDescriptor::CPPTYPE_MESSAGE
                        ? ""
                        : ScalarText(member, cell, -1));
    }
    table.Add(std::move(row));
  }
  absl::StrAppend(&out, indent, field.name(), ":\n");
  for (absl::string_view line :
       absl::StrSplit(table.Text(), '\n', absl::SkipEmpty())) {
    absl::StrAppend(&out, indent, "  ", line, "\n");
  }
  return true;
}

void AppendMember(const FieldDescriptor& field, const Message& member,
                  const std::string& indent, std::string& out) {
  google::protobuf::Timestamp time;
  if (member.GetDescriptor() == time.GetDescriptor()) {
    time.CopyFrom(member);
    absl::StrAppend(&out, indent, field.name(), ": ", TimeText(time), "\n");
    return;
  }
  google::protobuf::Duration duration;
  if (member.GetDescriptor() == duration.GetDescriptor()) {
    duration.CopyFrom(member);
    absl::StrAppend(&out, indent, field.name(), ": ", DurationText(duration),
                    "\n");
    return;
  }
  absl::StrAppend(&out, indent, field.name(), ":\n");
  AppendMessage(member, indent + "  ", out);
}

// Those that are set, and what is not the case: "no" is an answer.
std::vector<const FieldDescriptor*> ShownFields(const Message& message) {
  const auto& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> shown;
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    const bool answer = field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL &&
                        !field->is_repeated() && !field->has_presence();
    if (answer || (field->is_repeated()
                       ? reflection.FieldSize(message, field) > 0
                       : reflection.HasField(message, field))) {
      shown.push_back(field);
    }
  }
  return shown;
}

void AppendMessage(const Message& message, const std::string& indent,
                   std::string& out) {
  const auto& reflection = *message.GetReflection();
  for (const FieldDescriptor* field : ShownFields(message)) {
    const bool member = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (!field->is_repeated()) {
      if (member) {
        AppendMember(*field, reflection.GetMessage(message, field), indent,
                     out);
      } else {
        absl::StrAppend(&out, indent, field->name(), ": ",
                        ScalarText(message, *field, -1), "\n");
      }
      continue;
    }
    if (member && AppendAsTable(message, *field, indent, out)) continue;
    std::vector<std::string> values;
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      if (member) {
        AppendMember(*field, reflection.GetRepeatedMessage(message, field, i),
                     indent, out);
      } else {
        values.push_back(ScalarText(message, *field, i));
      }
    }
    if (!member) {
      absl::StrAppend(&out, indent, field->name(), ": ",
                      absl::StrJoin(values, ", "), "\n");
    }
  }
}

}  // namespace

std::string JobStateText(v1::JobState state) {
  return Word(v1::JobState_Name(state), "JOB_STATE_");
}

std::string ModelsText(const v1::ListModelsResponse& response) {
  Table table({"model", "state", "family", "layers", "experts", "per token",
               "shared", "size", "note"});
  for (const v1::Model& model : response.models()) {
    table.Add(
        {model.name(), Word(v1::ModelState_Name(model.state()), "MODEL_STATE_"),
         model.family(), absl::StrCat(model.layers()),
         absl::StrCat(model.experts()), absl::StrCat(model.experts_per_token()),
         absl::StrCat(model.shared_experts()),
         FormatByteSize(model.size_bytes()), Visible(model.error().message())});
  }
  return table.Text();
}

std::string AnalysesText(const v1::ListAnalysesResponse& response) {
  Table table({"analysis", "version", "tokens", "summary"});
  for (const v1::AnalysisInfo& analysis : response.analyses()) {
    table.Add({analysis.name(), absl::StrCat(analysis.version()),
               analysis.needs_tokens() ? "yes" : "no", analysis.summary()});
  }
  return table.Text();
}

std::string AnalysisText(const v1::AnalysisInfo& analysis) {
  std::string out =
      absl::StrCat(analysis.name(), " version ", analysis.version(), "\n",
                   analysis.summary(), "\nDefinition: ", analysis.definition(),
                   "\nSource: ", analysis.source(), "\n\n");
  Table parameters({"parameter", "type", "default", "meaning"});
  for (const v1::AnalysisParameter& p : analysis.parameters()) {
    parameters.Add({p.name(), p.type(), p.default_json(), p.meaning()});
  }
  Table arrays({"array", "type", "shape", "unit", "meaning"});
  for (const v1::ArrayDeclaration& a : analysis.arrays()) {
    arrays.Add({a.pattern(), Word(v1::DataType_Name(a.dtype()), "DATA_TYPE_"),
                absl::StrCat("[", absl::StrJoin(a.shape(), ", "), "]"),
                a.unit(), a.meaning()});
  }
  Table models({"model", "fits", "reason"});
  for (const v1::ModelFit& fit : analysis.models()) {
    models.Add({fit.model(), fit.fits() ? "yes" : "no", fit.reason()});
  }
  absl::StrAppend(&out, parameters.Text(), "\n", arrays.Text(), "\n",
                  models.Text());
  return out;
}

std::string JobsText(const v1::ListJobsResponse& response) {
  Table table({"job", "analysis", "model", "state", "progress", "created"});
  for (const v1::Job& job : response.jobs()) {
    table.Add({job.id(), job.analysis(),
               job.models().empty() ? "" : job.models(0),
               JobStateText(job.state()),
               job.state() == v1::JOB_STATE_QUEUED ||
                       job.state() == v1::JOB_STATE_RUNNING
                   ? ProgressText(job)
                   : "",
               TimeText(job.create_time())});
  }
  return table.Text();
}

std::string TokensText(const v1::TokenizeResponse& response) {
  Table table({"pos", "id", "token", "special"});
  int position = 0;
  for (const v1::Token& token : response.tokens()) {
    table.Add({absl::StrCat(position++), absl::StrCat(token.id()),
               QuotedToken(token.text()),
               token.special() ? "yes" : ""});
  }
  return table.Text();
}

std::string CacheText(const v1::GetCacheStatsResponse& response) {
  Table table(
      {"tier", "entries", "size", "limit", "hits", "misses", "evictions"});
  for (const v1::CacheTier& tier : response.tiers()) {
    table.Add(
        {tier.name(), absl::StrCat(tier.entries()),
         FormatByteSize(tier.size_bytes()),
         tier.limit_bytes() == 0 ? "none" : FormatByteSize(tier.limit_bytes()),
         absl::StrCat(tier.hits()), absl::StrCat(tier.misses()),
         absl::StrCat(tier.evictions())});
  }
  return absl::StrCat(table.Text(), "requests: ", response.hits(), " hits, ",
                      response.misses(), " misses, ", response.joins(),
                      " joins, ", response.corrupt(), " corrupt; ",
                      absl::StrFormat("%.1f", response.saved_seconds()),
                      " s saved\n");
}

std::string EstimateText(const v1::EstimateModelResponse& response) {
  // A model that is there needs nothing more.
  const std::int64_t needed =
      response.loaded() ? 0
                        : response.weight_bytes() + response.workspace_bytes();
  return absl::StrCat(
      "device: ", response.device(), "\nneeded: ", FormatByteSize(needed),
      " (weights ", FormatByteSize(response.weight_bytes()), ", workspace ",
      FormatByteSize(response.workspace_bytes()),
      ")\navailable: ", FormatByteSize(response.available_bytes()), " of ",
      FormatByteSize(response.budget_bytes()),
      "\nfits: ", response.fits() ? "yes" : "no", "\nevictions: ",
      response.evictions().empty() ? "none"
                                   : absl::StrJoin(response.evictions(), ", "),
      "\nloaded: ", response.loaded() ? "yes" : "no", "\n");
}

std::string VerdictText(const v1::Job& job, const v1::Model& model) {
  const std::string files = absl::StrCat(
      model.weight_files(), model.weight_files() == 1 ? " file, " : " files, ",
      FormatByteSize(model.size_bytes()));
  if (!model.has_hash_time()) {
    return absl::StrCat("verified: ", files,
                        ", each as its name in the Hugging Face cache says\n");
  }
  // The server's clock gave both times.
  return ToTime(model.hash_time()) < ToTime(job.start_time())
             ? absl::StrCat("verified: ", files, ", unchanged since ",
                            TimeText(model.hash_time()), "\n")
             : absl::StrCat("hashed for the first time as they are now: ",
                            files, "\n");
}

std::string MessageText(const Message& message) {
  std::string out;
  AppendMessage(message, "", out);
  return out;
}

std::string MessageJson(const Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  options.add_whitespace = true;
  std::string out;
  // Fails only for messages of unknown types, and ours are compiled in.
  if (!google::protobuf::util::MessageToJsonString(message, &out, options)
           .ok()) {
    return "{}\n";
  }
  return out;
}

}  // namespace moescope::client
