#include "server/model/bounded_json_internal.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxDepth = 32;
constexpr std::int64_t kMaxValues = 4'000'000;

// Builds the tree itself: the library's own builder keeps the last of two equal
// keys without a word and follows any nesting.
class TreeBuilder final : public json::json_sax_t {
 public:
  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override {
    return Add(value);
  }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return Fail("bytes in text"); }

  bool start_object(std::size_t /*elements*/) override {
    return Open(json::object());
  }
  bool key(string_t& value) override {
    if (open_.back()->contains(value)) {
      return Fail(absl::StrCat("key ", QuoteName(value), " stands twice"));
    }
    key_ = value;
    return true;
  }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t /*elements*/) override {
    return Open(json::array());
  }
  bool end_array() override { return Close(); }

  bool parse_error(std::size_t position, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    return Fail(absl::StrCat("not valid JSON near byte ", position));
  }

  absl::StatusOr<json> Take() && {
    MOESCOPE_RETURN_IF_ERROR(status_);
    if (!root_.is_object()) return absl::DataLossError("not a JSON object");
    return std::move(root_);
  }

 private:
  // Where the next value goes. Pointers into the tree stay valid: only the
  // innermost open container grows.
  json* Place(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    json& slot = (*open_.back())[key_];
    slot = std::move(value);
    return &slot;
  }

  bool Add(json value) {
    if (++num_values_ > kMaxValues) {
      return Fail(absl::StrCat("more than ", kMaxValues, " values"));
    }
    Place(std::move(value));
    return true;
  }

  bool Open(json container) {
    if (++num_values_ > kMaxValues) {
      return Fail(absl::StrCat("more than ", kMaxValues, " values"));
    }
    if (open_.size() == kMaxDepth) {
      return Fail(absl::StrCat("nested deeper than ", kMaxDepth, " levels"));
    }
    open_.push_back(Place(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  bool Fail(absl::string_view cause) {
    status_ = absl::DataLossError(cause);
    return false;
  }

  json root_;
  std::vector<json*> open_;
  std::string key_;
  std::int64_t num_values_ = 0;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<json> ParseJsonObject(absl::string_view text) {
  // The JSON library takes NUL for the end of its input.
  const std::size_t nul = text.find('\0');
  if (nul != absl::string_view::npos) {
    return absl::DataLossError(
        absl::StrCat("not valid JSON near byte ", nul + 1));
  }
  TreeBuilder builder;
  json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder).Take();
}

}  // namespace moescope::model::internal
