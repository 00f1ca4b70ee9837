#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace moescope::model::internal {

/// What one kind of tokenizer file makes of texts; the methods are those of
/// Tokenizer, which checks what it passes on.
/// Threads: immutable.
class TextCodec {
 public:
  virtual ~TextCodec() = default;
  /// `text` is valid UTF-8.
  virtual absl::StatusOr<std::vector<std::int32_t>> Encode(
      absl::string_view text, bool add_special_tokens) const = 0;
  virtual bool HasToken(std::int32_t id) const = 0;
  virtual bool IsSpecial(std::int32_t id) const = 0;
  virtual std::string DecodeToken(std::int32_t id) const = 0;
  /// Every id has a token.
  virtual absl::StatusOr<std::string> Decode(
      absl::Span<const std::int32_t> ids) const = 0;
  virtual std::int32_t vocab_size() const = 0;
  virtual std::optional<std::int32_t> bos_id() const = 0;
  virtual std::string Describe() const = 0;
};

/// From a tokenizer.json and the tokenizer_config.json beside it ("": none).
/// Errors: as Tokenizer::FromJson.
absl::StatusOr<std::unique_ptr<const TextCodec>> ParseJsonCodec(
    absl::string_view tokenizer_json, absl::string_view tokenizer_config_json);

/// From a SentencePiece model and what stands beside it; "" for a file that is
/// not there. Errors: as Tokenizer::FromSentencePiece.
absl::StatusOr<std::unique_ptr<const TextCodec>> ParseSentencePieceCodec(
    absl::string_view tokenizer_model, absl::string_view tokenizer_config_json,
    absl::string_view added_tokens_json);

}  // namespace moescope::model::internal
