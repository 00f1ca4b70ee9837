#include "server/model/config_reader_internal.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {
namespace {

using nlohmann::json;

std::string Describe(const json& value) {
  if (value.is_string()) return QuoteName(value.get_ref<const std::string&>());
  if (value.is_structured()) {
    return value.is_array() ? "an array" : "an object";
  }
  return value.dump();
}

std::string Describe(IntegerRange range) {
  return absl::StrCat("an integer in [", range.min, ", ", range.max, "]");
}

}  // namespace

ConfigReader::ConfigReader(const json& object, std::string path)
    : object_(&object), path_(std::move(path)) {}

const json* ConfigReader::Find(absl::string_view key) const {
  const auto found = object_->find(std::string(key));
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

bool ConfigReader::Mentions(absl::string_view key) const {
  return object_->contains(std::string(key));
}

std::string ConfigReader::KeyOfObject() const {
  for (const auto& item : object_->items()) {
    if (item.value().is_object()) return item.key();
  }
  return "";
}

absl::Status ConfigReader::Missing(absl::string_view key) const {
  return absl::DataLossError(absl::StrCat(path_, key, ": missing"));
}

absl::Status ConfigReader::Wrong(absl::string_view key, const json& found,
                                 absl::string_view allowed) const {
  return absl::DataLossError(absl::StrCat(path_, key, ": is ", Describe(found),
                                          ", must be ", allowed));
}

const char* ConfigReader::FirstPresent(
    std::initializer_list<const char*> keys) const {
  for (const char* key : keys) {
    if (Has(key)) return key;
  }
  return *keys.begin();
}

absl::StatusOr<std::optional<std::int64_t>> ConfigReader::OptionalInteger(
    absl::string_view key, IntegerRange range) const {
  const json* found = Find(key);
  if (found == nullptr) return std::optional<std::int64_t>();
  if (!found->is_number_integer()) return Wrong(key, *found, Describe(range));
  const bool too_big = found->is_number_unsigned() &&
                       found->get<std::uint64_t>() > std::uint64_t{INT64_MAX};
  const std::int64_t value = too_big ? INT64_MAX : found->get<std::int64_t>();
  if (too_big || value < range.min || value > range.max) {
    return Wrong(key, *found, Describe(range));
  }
  return std::optional<std::int64_t>(value);
}

absl::StatusOr<std::int64_t> ConfigReader::Integer(absl::string_view key,
                                                   IntegerRange range) const {
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<std::int64_t> value,
                            OptionalInteger(key, range));
  if (!value.has_value()) return Missing(key);
  return *value;
}

absl::StatusOr<std::int64_t> ConfigReader::AgreedInteger(
    std::initializer_list<const char*> keys, IntegerRange range) const {
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<std::int64_t> value,
                            OptionalAgreedInteger(keys, range));
  if (!value.has_value()) return Missing(*keys.begin());
  return *value;
}

absl::StatusOr<std::optional<std::int64_t>> ConfigReader::OptionalAgreedInteger(
    std::initializer_list<const char*> keys, IntegerRange range) const {
  const char* const first = FirstPresent(keys);
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<std::int64_t> value,
                            OptionalInteger(first, range));
  for (const char* key : keys) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::optional<std::int64_t> other,
                              OptionalInteger(key, range));
    if (other.has_value() && other != value) {
      return absl::DataLossError(absl::StrCat(path_, key, ": is ", *other,
                                              ", but ", path_, first, " is ",
                                              *value, "; they must agree"));
    }
  }
  return value;
}

absl::StatusOr<std::int64_t> ConfigReader::IntegerOr(absl::string_view key,
                                                     std::int64_t fallback,
                                                     IntegerRange range) const {
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<std::int64_t> value,
                            OptionalInteger(key, range));
  return value.value_or(fallback);
}

absl::StatusOr<double> ConfigReader::Real(absl::string_view key,
                                          bool zero_allowed) const {
  const json* found = Find(key);
  if (found == nullptr) return Missing(key);
  const absl::string_view allowed =
      zero_allowed ? "a number of at least 0" : "a number above 0";
  if (!found->is_number()) return Wrong(key, *found, allowed);
  const double value = found->get<double>();
  if (!(value >= 0) || (value == 0 && !zero_allowed)) {
    return Wrong(key, *found, allowed);
  }
  // Forward passes compute with it in fp32.
  if (value > std::numeric_limits<float>::max()) {
    return Wrong(key, *found, absl::StrCat(allowed, " within fp32"));
  }
  return value;
}

absl::StatusOr<double> ConfigReader::PositiveReal(absl::string_view key) const {
  return Real(key, /*zero_allowed=*/false);
}

absl::StatusOr<double> ConfigReader::PositiveRealOr(absl::string_view key,
                                                    double fallback) const {
  if (!Has(key)) return fallback;
  return PositiveReal(key);
}

absl::StatusOr<double> ConfigReader::NonNegativeRealOr(absl::string_view key,
                                                       double fallback) const {
  if (!Has(key)) return fallback;
  return Real(key, /*zero_allowed=*/true);
}

absl::StatusOr<std::vector<double>> ConfigReader::PositiveReals(
    absl::string_view key) const {
  constexpr absl::string_view kAllowed = "an array of numbers above 0";
  const json* found = Find(key);
  if (found == nullptr) return Missing(key);
  if (!found->is_array()) return Wrong(key, *found, kAllowed);
  std::vector<double> values;
  for (const json& element : *found) {
    const double value = element.is_number() ? element.get<double>() : 0;
    if (!(value > 0 && value <= std::numeric_limits<float>::max())) {
      return Wrong(absl::StrCat(key, "[", values.size(), "]"), element,
                   "a number above 0 within fp32");
    }
    values.push_back(value);
  }
  return values;
}

absl::StatusOr<std::vector<std::int64_t>> ConfigReader::Integers(
    absl::string_view key, IntegerRange range) const {
  std::vector<std::int64_t> values;
  const json* found = Find(key);
  if (found == nullptr) return values;
  if (!found->is_array()) return Wrong(key, *found, "an array of integers");
  for (const json& element : *found) {
    const std::string name = absl::StrCat(key, "[", values.size(), "]");
    if (!element.is_number_integer()) {
      return Wrong(name, element, Describe(range));
    }
    const auto value = element.get<std::int64_t>();
    if (value < range.min || value > range.max) {
      return Wrong(name, element, Describe(range));
    }
    values.push_back(value);
  }
  return values;
}

absl::StatusOr<std::vector<std::string>> ConfigReader::Strings(
    absl::string_view key) const {
  std::vector<std::string> values;
  const json* found = Find(key);
  if (found == nullptr) return values;
  if (!found->is_array()) return Wrong(key, *found, "an array of strings");
  for (const json& element : *found) {
    if (!element.is_string()) {
      return Wrong(absl::StrCat(key, "[", values.size(), "]"), element,
                   "a string");
    }
    values.push_back(element.get<std::string>());
  }
  return values;
}

absl::StatusOr<bool> ConfigReader::BoolOr(absl::string_view key,
                                          bool fallback) const {
  const json* found = Find(key);
  if (found == nullptr) return fallback;
  if (!found->is_boolean()) return Wrong(key, *found, "true or false");
  return found->get<bool>();
}

absl::StatusOr<bool> ConfigReader::TruthOr(absl::string_view key,
                                           bool fallback) const {
  const json* found = Find(key);
  if (found == nullptr || !found->is_number()) return BoolOr(key, fallback);
  return found->get<double>() != 0;
}

absl::StatusOr<std::string> ConfigReader::String(absl::string_view key) const {
  const json* found = Find(key);
  if (found == nullptr) return Missing(key);
  if (!found->is_string()) return Wrong(key, *found, "a string");
  return found->get<std::string>();
}

absl::StatusOr<std::string> ConfigReader::StringOr(
    absl::string_view key, absl::string_view fallback) const {
  if (!Has(key)) return std::string(fallback);
  return String(key);
}

absl::StatusOr<std::optional<std::array<std::int64_t, 2>>>
ConfigReader::OptionalIntegerPair(absl::string_view key,
                                  IntegerRange range) const {
  using Pair = std::array<std::int64_t, 2>;
  const std::string allowed = absl::StrCat("two times ", Describe(range));
  const json* found = Find(key);
  if (found == nullptr) return std::optional<Pair>();
  if (!found->is_array() || found->size() != 2) {
    return Wrong(key, *found, allowed);
  }
  Pair pair = {};
  for (std::size_t i = 0; i < pair.size(); ++i) {
    const json& element = (*found)[i];
    // Compared as reals: an unsigned number may not fit std::int64_t.
    if (!element.is_number_integer() ||
        element.get<double>() < static_cast<double>(range.min) ||
        element.get<double>() > static_cast<double>(range.max)) {
      return Wrong(key, element, allowed);
    }
    pair[i] = element.get<std::int64_t>();
  }
  return std::optional<Pair>(pair);
}

absl::StatusOr<std::optional<ConfigReader>> ConfigReader::Object(
    absl::string_view key) const {
  const json* found = Find(key);
  if (found == nullptr) return std::optional<ConfigReader>();
  if (!found->is_object()) return Wrong(key, *found, "an object");
  return std::optional<ConfigReader>(
      ConfigReader(*found, absl::StrCat(path_, key, ".")));
}

absl::Status ConfigReader::NotSupported(absl::string_view key,
                                        absl::string_view value,
                                        absl::string_view supported) const {
  return absl::UnimplementedError(absl::StrCat(
      path_, key, ": ", value, " is not supported (", supported, ")"));
}

absl::Status ConfigReader::RequireString(
    absl::string_view key,
    std::initializer_list<absl::string_view> supported) const {
  if (!Has(key)) return absl::OkStatus();
  MOESCOPE_ASSIGN_OR_RETURN(const std::string value, String(key));
  if (std::count(supported.begin(), supported.end(), value) > 0) {
    return absl::OkStatus();
  }
  return NotSupported(key, QuoteName(value),
                      absl::StrCat(absl::StrJoin(supported, ", "),
                                   supported.size() == 1 ? " is" : " are"));
}

absl::Status ConfigReader::RequireBool(absl::string_view key,
                                       bool supported) const {
  MOESCOPE_ASSIGN_OR_RETURN(const bool value, BoolOr(key, supported));
  if (value == supported) return absl::OkStatus();
  return NotSupported(key, value ? "true" : "false",
                      supported ? "true is" : "false is");
}

}  // namespace moescope::model::internal
