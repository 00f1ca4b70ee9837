#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/model/tokenizer/json_node_internal.h"

namespace moescope::model::internal {

/// The tokens put around those of a text.
/// Threads: immutable.
class PostProcessor {
 public:
  /// Reads "post_processor"; ids must be less than `vocab_size`.
  /// Errors: UNIMPLEMENTED, DATA_LOSS.
  static absl::StatusOr<PostProcessor> Parse(const JsonNode& node,
                                             std::int32_t vocab_size);

  /// `bos` before the text and `eos` behind it, where given.
  static PostProcessor Around(std::optional<std::int32_t> bos,
                              std::optional<std::int32_t> eos);

  /// `ids` as they are, or inside the template.
  std::vector<std::int32_t> Apply(std::vector<std::int32_t> ids,
                                  bool add_special_tokens) const;
  /// The first token before the text.
  std::optional<std::int32_t> FirstSpecial() const;

 private:
  /// One place of the template: the text, or special tokens.
  struct Part {
    bool is_text = false;
    std::vector<std::int32_t> ids;
  };
  absl::Status ReadTemplate(const JsonNode& node, std::int32_t vocab_size);
  absl::Status Read(const JsonNode& node, std::int32_t vocab_size);

  // Empty: no template.
  std::vector<Part> parts_;
};

}  // namespace moescope::model::internal
