#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/model/tokenizer/json_node_internal.h"

namespace moescope::model::internal {

/// Which tokens stand before and behind a text.
struct BosEos {
  bool add_bos = false;
  bool add_eos = false;
  /// As they are spelled; nullopt where no token is named.
  std::optional<std::string> bos_token;
  std::optional<std::string> eos_token;
};

/// add_bos_token, add_eos_token, bos_token and eos_token of the
/// tokenizer_config.json `config`; those of `defaults` for absent keys. A flag
/// that is null is false, as for transformers.
/// Errors: DATA_LOSS (a value of another type).
absl::StatusOr<BosEos> ReadBosEos(const JsonNode& config, BosEos defaults);

/// What stands around a text instead of the "post_processor" of the
/// tokenizer.json beside the tokenizer_config.json `text`; nullopt where that
/// stays. A token that is added has a name.
/// Source: transformers 4.57, `update_post_processor` of the fast tokenizers.
/// Its classes for Llama, Code Llama, Gemma, Cohere and GPT-NeoX build the
/// post-processor anew from these keys; all others keep the file's, whatever
/// the keys say. AutoTokenizer takes `<tokenizer_class>Fast` first, hence a
/// name with or without "Fast" is the same.
/// Errors: DATA_LOSS (not JSON, a value of another type, a token to be added
/// that is null).
absl::StatusOr<std::optional<BosEos>> ReadRebuiltPostProcessor(
    absl::string_view text);

/// The tokenizer_config.json `text` ("": none) with bos_token and eos_token of
/// the special_tokens_map.json `map` in place of its own; `text` itself where it
/// has an added_tokens_decoder, which replaced that file.
/// Source: transformers 4.57, `PreTrainedTokenizerBase._from_pretrained`.
/// Errors: DATA_LOSS naming the file (not JSON).
absl::StatusOr<std::string> WithSpecialTokensMap(absl::string_view text,
                                                 absl::string_view map);

}  // namespace moescope::model::internal
