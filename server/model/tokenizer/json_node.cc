#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/model/bounded_json_internal.h"
#include "server/model/tokenizer/json_node_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

absl::Status Broken(absl::string_view message) {
  ErrorDetails details;
  details.reason = "BROKEN_TOKENIZER";
  return MakeError(absl::StatusCode::kDataLoss, message, details);
}

}  // namespace

absl::Status BrokenTokenizer(absl::string_view where, absl::string_view cause) {
  return Broken(absl::StrCat(where, " ", cause));
}

absl::Status UnsupportedTokenizer(absl::string_view what) {
  ErrorDetails details;
  details.reason = "UNSUPPORTED_TOKENIZER";
  details.metadata["component"] = std::string(what);
  return MakeError(
      absl::StatusCode::kUnimplemented,
      absl::StrCat(what, " is not supported; send token ids instead"), details);
}

absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text) {
  auto document = ParseJsonObject(text);
  return document.ok() ? std::move(document)
                       : Broken(document.status().message());
}

bool JsonNode::Has(const char* key) const {
  if (!value_->is_object()) {
    return false;
  }
  const auto member = value_->find(key);
  return member != value_->end() && !member->is_null();
}

absl::StatusOr<JsonNode> JsonNode::Get(const char* key) const {
  if (!value_->is_object()) {
    return BrokenTokenizer(
        path_, absl::StrCat("is not an object but ", value_->type_name()));
  }
  const auto member = value_->find(key);
  if (member == value_->end()) {
    return BrokenTokenizer(path_, absl::StrCat("has no \"", key, "\""));
  }
  return JsonNode(*member, path_.empty() ? key : absl::StrCat(path_, ".", key));
}

absl::StatusOr<std::vector<JsonNode>> JsonNode::List(const char* key) const {
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode node, Get(key));
  if (!node.value().is_array()) {
    return BrokenTokenizer(node.path(), absl::StrCat("is not an array but ",
                                                     node.value().type_name()));
  }
  std::vector<JsonNode> elements;
  for (std::size_t i = 0; i < node.value().size(); ++i) {
    elements.emplace_back(node.value()[i],
                          absl::StrCat(node.path(), "[", i, "]"));
  }
  return elements;
}

absl::StatusOr<std::string> JsonNode::String(const char* key) const {
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode node, Get(key));
  const auto* text = node.value().get_ptr<const std::string*>();
  if (text == nullptr) {
    return BrokenTokenizer(node.path(), absl::StrCat("is not a string but ",
                                                     node.value().type_name()));
  }
  return *text;
}

absl::StatusOr<std::optional<std::string>> JsonNode::OptionalString(
    const char* key) const {
  if (!Has(key)) {
    return std::optional<std::string>();
  }
  MOESCOPE_ASSIGN_OR_RETURN(std::string text, String(key));
  return std::optional<std::string>(std::move(text));
}

absl::StatusOr<bool> JsonNode::Bool(const char* key) const {
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode node, Get(key));
  if (!node.value().is_boolean()) {
    return BrokenTokenizer(node.path(), absl::StrCat("is not a boolean but ",
                                                     node.value().type_name()));
  }
  return node.value().get<bool>();
}

absl::StatusOr<bool> JsonNode::Bool(const char* key, bool default_value) const {
  if (!Has(key)) {
    return default_value;
  }
  return Bool(key);
}

absl::StatusOr<std::int32_t> JsonNode::Int(const char* key,
                                           std::int32_t max) const {
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode node, Get(key));
  return node.AsInt(max);
}

absl::StatusOr<std::int32_t> JsonNode::AsInt(std::int32_t max) const {
  if (!value_->is_number_unsigned() ||
      value_->get<std::uint64_t>() > static_cast<std::uint64_t>(max)) {
    return BrokenTokenizer(path_,
                           absl::StrCat("is not an integer in [0, ", max, "]"));
  }
  return static_cast<std::int32_t>(value_->get<std::uint64_t>());
}

absl::StatusOr<std::string> JsonNode::Type() const { return String("type"); }

absl::Status JsonNode::OnlyHas(std::initializer_list<const char*> known) const {
  if (!value_->is_object()) {
    return BrokenTokenizer(
        path_, absl::StrCat("is not an object but ", value_->type_name()));
  }
  for (const auto& member : value_->items()) {
    const auto same = [&member](const char* key) {
      return member.key() == key;
    };
    if (std::none_of(known.begin(), known.end(), same)) {
      return UnsupportedTokenizer(
          absl::StrCat("option ", path_, ".", member.key()));
    }
  }
  return absl::OkStatus();
}

absl::Status JsonNode::Unsupported(absl::string_view type) const {
  return UnsupportedTokenizer(absl::StrCat(path_, " \"", type, "\""));
}

}  // namespace moescope::model::internal
