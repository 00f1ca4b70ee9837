#include "moescope/codec/parameters.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include <nlohmann/json.hpp>

#include "moescope/base/error.h"
#include "moescope/base/quote_name.h"
#include "moescope/base/sha256.h"
#include "moescope/spec/parameters.h"

namespace moescope::codec {
namespace {

using Json = nlohmann::ordered_json;

// Longer token inputs are shown by their digest, also those with longer labels.
constexpr std::size_t kShownTokens = 64;
constexpr std::size_t kShownLabelBytes = 4096;
// Longer lists too: a job's record and a result's provenance hold the text.
constexpr std::size_t kShownValues = 1024;

std::string Dump(const Json& json) {
  // A string that is no UTF-8 is shown with U+FFFD instead of throwing.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json TokensToJson(const spec::TokenInput& input) {
  Json json = Json::object();
  std::size_t label_bytes = 0;
  for (const std::string& label : input.labels) {
    label_bytes += label.size();
  }
  if (input.ids.size() > kShownTokens || label_bytes > kShownLabelBytes) {
    json["tokens"] = input.ids.size();
    json["sequences"] = input.lengths.size();
    json["digest"] = spec::TokensDigest(input);
    return json;
  }
  json["ids"] = input.ids;
  json["lengths"] = input.lengths;
  if (!input.labels.empty()) {
    json["labels"] = input.labels;
  }
  return json;
}

template <class T>
Json ListToJson(const std::vector<T>& values) {
  if (values.size() <= kShownValues) {
    return values;
  }
  Json json = Json::object();
  json["values"] = values.size();
  json["digest"] = Sha256Hex(Dump(values));
  return json;
}

struct JsonWriter {
  Json json = Json::object();
  void operator()(absl::string_view name, const spec::TokenInput& input) {
    json[std::string(name)] = TokensToJson(input);
  }
  template <class T>
  void operator()(absl::string_view name, const std::vector<T>& values) {
    json[std::string(name)] = ListToJson(values);
  }
  template <class T>
  void operator()(absl::string_view name, const T& value) {
    json[std::string(name)] = value;
  }
};

// Each Read gives whether `json` holds a value of that type.
bool Read(const Json& json, bool& value) {
  if (!json.is_boolean()) {
    return false;
  }
  value = json.get<bool>();
  return true;
}

bool Read(const Json& json, std::int64_t& value) {
  const bool fits =
      json.is_number_integer() &&
      (!json.is_number_unsigned() ||
       json.get<std::uint64_t>() <=
           std::uint64_t{std::numeric_limits<std::int64_t>::max()});
  if (fits) {
    value = json.get<std::int64_t>();
  }
  return fits;
}

bool Read(const Json& json, double& value) {
  if (!json.is_number()) {
    return false;
  }
  value = json.get<double>();
  return true;
}

bool Read(const Json& json, std::string& value) {
  if (json.is_string()) {
    value = json.get<std::string>();
    return true;
  }
  // Participants are words, but those of routed experts look like numbers.
  value = json.is_number_integer() ? Dump(json) : "";
  return json.is_number_integer();
}

template <class T>
bool Read(const Json& json, std::vector<T>& values) {
  values.clear();
  if (!json.is_array()) {
    values.emplace_back();
    return Read(json, values.back());
  }
  for (const Json& element : json) {
    T value{};
    if (!Read(element, value)) {
      return false;
    }
    values.push_back(std::move(value));
  }
  return true;
}

// [[0, 1], [2, 5]] as 0, 1, 2, 5.
bool ReadPairs(const Json& json, std::vector<std::int64_t>& values) {
  if (!json.is_array() || json.empty() || !json[0].is_array()) {
    return Read(json, values);
  }
  values.clear();
  for (const Json& pair : json) {
    std::vector<std::int64_t> two;
    if (!pair.is_array() || pair.size() != 2 || !Read(pair, two)) {
      return false;
    }
    values.insert(values.end(), two.begin(), two.end());
  }
  return true;
}

bool AppendSequence(const Json& json, spec::TokenInput& input) {
  std::vector<std::int64_t> ids;
  if (!json.is_array() || !Read(json, ids)) {
    return false;
  }
  for (const std::int64_t id : ids) {
    if (id < std::numeric_limits<std::int32_t>::min() ||
        id > std::numeric_limits<std::int32_t>::max()) {
      return false;
    }
    input.ids.push_back(static_cast<std::int32_t>(id));
  }
  input.lengths.push_back(static_cast<std::int64_t>(ids.size()));
  return true;
}

bool Read(const Json& json, spec::TokenInput& input) {
  input = {};
  if (!json.is_array()) {
    return false;
  }
  if (json.empty() || !json[0].is_array()) {
    return AppendSequence(json, input);
  }
  for (const Json& sequence : json) {
    if (!AppendSequence(sequence, input)) {
      return false;
    }
  }
  return true;
}

// The value that `text` writes for a field of type T.
template <class T>
bool Parse(absl::string_view text, T& value) {
  Json json = Json::parse(text.begin(), text.end(), nullptr, false);
  if constexpr (std::is_same_v<T, std::string>) {
    value = json.is_string() ? json.get<std::string>() : std::string(text);
    return true;
  } else {
    if (json.is_discarded()) {
      // "0,2" for a list.
      const std::string list = absl::StrCat("[", text, "]");
      json = Json::parse(list, nullptr, false);
      if (!std::is_arithmetic_v<T> && !json.is_discarded()) {
        return Read(json, value);
      }
      if constexpr (std::is_same_v<T, std::vector<std::string>>) {
        value = absl::StrSplit(text, ',');
        return text.find_first_of("[]{}\"") == absl::string_view::npos;
      }
      return false;
    }
    return Read(json, value);
  }
}

// Sets the field called `name`.
struct FieldSetter {
  absl::string_view name;
  absl::string_view text;
  bool found = false;
  absl::Status status;
  std::vector<absl::string_view> names;

  template <class T>
  void operator()(absl::string_view field, T& value) {
    names.push_back(field);
    // The command line speaks of one level.
    if (field != name && !(field == "levels" && name == "level")) {
      return;
    }
    found = true;
    if constexpr (std::is_same_v<T, std::vector<std::int64_t>>) {
      const Json json = Json::parse(text.begin(), text.end(), nullptr, false);
      if (name == "pairs" && !json.is_discarded()) {
        status = ReadPairs(json, value)
                     ? absl::OkStatus()
                     : InvalidField("spec.pairs",
                                    absl::StrCat("\"", text.substr(0, 80),
                                                 "\" is no list of pairs"));
        return;
      }
    }
    if constexpr (std::is_same_v<T, std::string>) {
      if (field == "masked_groups") {
        status = SetWord(field, spec::MaskedGroupsWords(), value);
        return;
      }
    }
    if (!Parse(text, value)) {
      status = InvalidField(
          absl::StrCat("spec.", field),
          absl::StrCat("\"", text.substr(0, 80), "\" is no ",
                       spec::ParameterTypeName<T>()));
    }
  }

  // A word that is an enum in the message, which could not say a wrong one.
  absl::Status SetWord(absl::string_view field,
                       const std::vector<std::string>& allowed,
                       std::string& value) const {
    Parse(text, value);
    if (std::count(allowed.begin(), allowed.end(), value) > 0) {
      return absl::OkStatus();
    }
    return InvalidField(absl::StrCat("spec.", field),
                        absl::StrCat(QuoteName(value), " is none of ",
                                     absl::StrJoin(allowed, ", ")));
  }
};

// Shows every field of `spec`, which may be const, to `visitor`.
template <class Spec, class Visitor>
void VisitSpec(Spec& spec, Visitor& visitor) {
  std::visit(
      [&visitor](auto& alternative) {
        std::decay_t<decltype(alternative)>::VisitFields(alternative, visitor);
      },
      spec);
}

}  // namespace

std::string SpecToJson(const spec::AnalysisSpec& spec) {
  JsonWriter writer;
  VisitSpec(spec, writer);
  return Dump(writer.json);
}

absl::Status SetFromJson(spec::AnalysisSpec& spec, absl::string_view name,
                         absl::string_view json) {
  spec::AnalysisSpec changed = spec;
  FieldSetter setter{name, json, false, absl::OkStatus(), {}};
  VisitSpec(changed, setter);
  if (!setter.found) {
    return InvalidField(
        absl::StrCat("spec.", name),
        absl::StrCat("is no parameter of ", spec::AnalysisName(spec),
                     "; its parameters: ", absl::StrJoin(setter.names, ", ")));
  }
  if (setter.status.ok()) {
    spec = std::move(changed);
  }
  return setter.status;
}

}  // namespace moescope::codec
