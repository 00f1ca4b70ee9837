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

// What parts of a tree take, with what the allocator adds: a value in its
// array, of which half may be spare; an object or array; a member's node of a
// std::map without its value and key; a std::string, beyond 15 bytes in two
// pieces.
constexpr std::int64_t kSlotBytes = 24;
constexpr std::int64_t kContainerBytes = 64;
constexpr std::int64_t kMemberBytes = 32;
std::int64_t StringBytes(const std::string& text) {
  const auto size = static_cast<std::int64_t>(text.size());
  return 48 + (size > 15 ? size + 16 : 0);
}

// Builds the tree itself: the library's own builder keeps the last of two equal
// keys without a word and follows any nesting.
class TreeBuilder final : public json::json_sax_t {
 public:
  explicit TreeBuilder(const JsonLimits& limits) : limits_(limits) {}

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
    return Charge(kMemberBytes + StringBytes(value));
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

  bool Charge(std::int64_t bytes) {
    tree_bytes_ += bytes;
    return tree_bytes_ <= limits_.max_tree_bytes ||
           Fail(absl::StrCat("takes more than ", limits_.max_tree_bytes,
                             " bytes of memory"));
  }

  bool Add(json value) {
    const auto* const text = value.get_ptr<const std::string*>();
    if (!Charge(kSlotBytes + (text == nullptr ? 0 : StringBytes(*text)))) {
      return false;
    }
    Place(std::move(value));
    return true;
  }

  bool Open(json container) {
    if (!Charge(kSlotBytes + kContainerBytes)) return false;
    if (open_.size() == limits_.max_depth) {
      return Fail(
          absl::StrCat("nested deeper than ", limits_.max_depth, " levels"));
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

  const JsonLimits limits_;
  json root_;
  std::vector<json*> open_;
  std::string key_;
  std::int64_t tree_bytes_ = 0;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<json> ParseJsonObject(absl::string_view text,
                                     const JsonLimits& limits) {
  // The JSON library takes NUL for the end of its input.
  const std::size_t nul = text.find('\0');
  if (nul != absl::string_view::npos) {
    return absl::DataLossError(
        absl::StrCat("not valid JSON near byte ", nul + 1));
  }
  TreeBuilder builder(limits);
  json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder).Take();
}

}  // namespace moescope::model::internal
