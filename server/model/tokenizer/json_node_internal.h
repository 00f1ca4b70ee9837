#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace moescope::model::internal {

/// DATA_LOSS: the file contradicts itself at `where`.
absl::Status BrokenTokenizer(absl::string_view where, absl::string_view cause);

/// UNIMPLEMENTED: `<what> is not supported; send token ids instead`.
absl::Status UnsupportedTokenizer(absl::string_view what);

/// The JSON document `text`, which must be an object within JsonLimits.
/// Errors: DATA_LOSS with the cause.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text);

/// A view of one place of a JSON document that knows its path, so that every
/// complaint names it. Getters answer DATA_LOSS for a value of another type.
/// Threads: as the document, which must outlive it.
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string path)
      : value_(&value), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  const nlohmann::json& value() const { return *value_; }
  bool IsNull() const { return value_->is_null(); }
  bool Has(const char* key) const;

  /// The member `key`; DATA_LOSS when there is none.
  absl::StatusOr<JsonNode> Get(const char* key) const;
  /// The elements of the array `key`.
  absl::StatusOr<std::vector<JsonNode>> List(const char* key) const;
  absl::StatusOr<std::string> String(const char* key) const;
  /// A member that may be absent or null.
  absl::StatusOr<std::optional<std::string>> OptionalString(
      const char* key) const;
  absl::StatusOr<bool> Bool(const char* key) const;
  absl::StatusOr<bool> Bool(const char* key, bool default_value) const;
  /// An integer in [0, `max`].
  absl::StatusOr<std::int32_t> Int(const char* key, std::int32_t max) const;
  /// This value itself as such an integer.
  absl::StatusOr<std::int32_t> AsInt(std::int32_t max) const;

  /// The component's "type".
  absl::StatusOr<std::string> Type() const;
  /// UNIMPLEMENTED when the component has an option outside `known`.
  absl::Status OnlyHas(std::initializer_list<const char*> known) const;
  /// UNIMPLEMENTED naming this place's component: `pre_tokenizer "Foo"`.
  absl::Status Unsupported(absl::string_view type) const;

 private:
  const nlohmann::json* value_;
  std::string path_;
};

}  // namespace moescope::model::internal
