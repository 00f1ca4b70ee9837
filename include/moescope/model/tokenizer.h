#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace moescope::model {

namespace internal {
class TextCodec;
}  // namespace internal

/// Text to token ids and back, as a checkpoint's tokenizer.json or, where there
/// is none, its SentencePiece tokenizer.model says.
///
/// tokenizer.json: the same ids as the `tokenizers` library gives for one
/// sequence without truncation and padding (those settings of the file are
/// ignored). Supported: model BPE (no dropout, no subword prefix or suffix); normalizers
/// Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, Lowercase, Strip,
/// StripAccents; pre_tokenizers Sequence, ByteLevel, Split, Metaspace, Digits,
/// Whitespace, WhitespaceSplit, Punctuation; post_processors Sequence,
/// TemplateProcessing, ByteLevel; decoders Sequence, ByteLevel, ByteFallback,
/// Metaspace, Replace, Strip, Fuse. Regexes are Oniguruma's, run by PCRE2.
/// Known differences: characters newer than the Unicode version of the
/// packaged libraries; case folding that turns one letter into several inside
/// `(?i)`; an added token outside the vocabulary keeps the id that the file
/// declares.
///
/// tokenizer_config.json beside it decides about BOS and EOS as for
/// AutoTokenizer of transformers 4, for which the checkpoints were published:
/// where its tokenizer_class is LlamaTokenizer, CodeLlamaTokenizer,
/// GemmaTokenizer, CohereTokenizer or GPTNeoXTokenizer (with or without
/// "Fast"), bos_token and eos_token stand around a text as add_bos_token
/// (default true, false for GPTNeoX) and add_eos_token (default false) say, and
/// the post_processor is not read. DeepSeek's files rely on that. With any other
/// class the post_processor alone counts (transformers 5 ignores the two flags),
/// and with none: transformers 4 then guesses a class from config.json's
/// model_type by a table that changes from release to release, so that what the
/// file itself says is the better answer.
///
/// special_tokens_map.json beside a tokenizer_config.json without
/// added_tokens_decoder, or without such a file, names bos_token and eos_token
/// in its place, as for transformers 4; else it is not read.
///
/// tokenizer.model: the same ids as the `sentencepiece` library gives; BPE and
/// unigram, byte fallback, user-defined pieces, normalisation rules. Beside it,
/// tokenizer_config.json says whether BOS and EOS are put around
/// (add_bos_token, default true; add_eos_token, default false), and it and
/// added_tokens.json may add tokens, which are looked for in the text first;
/// what stands between two of them is a text of its own, as for transformers'
/// LlamaTokenizer with `legacy`.
///
/// Threads: immutable after load; all methods may run at the same time.
class Tokenizer {
 public:
  /// Reads the text of a tokenizer.json, and that of the tokenizer_config.json
  /// beside it ("": no such file).
  /// Errors, naming the file: DATA_LOSS (not JSON, contradicting contents, a
  /// BOS or EOS to be added that is null or no token), UNIMPLEMENTED (a
  /// component or option that is not supported, by name), RESOURCE_EXHAUSTED
  /// (above 64 MiB, the configuration above 16 MiB).
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> FromJson(
      absl::string_view tokenizer_json,
      absl::string_view tokenizer_config_json = "");

  /// Reads a SentencePiece model, and the texts of what stands beside it ("":
  /// no such file). Texts of up to 8 MiB can be encoded.
  /// Errors: as FromJson, naming the file.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> FromSentencePiece(
      absl::string_view tokenizer_model,
      absl::string_view tokenizer_config_json,
      absl::string_view added_tokens_json);

  /// Reads `folder`/tokenizer.json, or else `folder`/tokenizer.model, and what
  /// stands beside it.
  /// Errors: NOT_FOUND when there is neither; as the functions above.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Load(
      const std::string& folder);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// Token ids of `text`; special tokens spelled out in it become their ids.
  /// `add_special_tokens` puts those of the file around (BOS, EOS).
  /// Cost: O(n log n) in the bytes of the text.
  /// Errors: INVALID_ARGUMENT field "text" (not UTF-8), RESOURCE_EXHAUSTED
  /// field "text" (above 64 MiB, or a regex of the file that needs too many
  /// steps on it), DATA_LOSS (an unknown character, and the file's unk_token
  /// is no token).
  absl::StatusOr<std::vector<std::int32_t>> Encode(
      absl::string_view text, bool add_special_tokens = true) const;

  /// The bytes that token `id` stands for inside a text: possibly a part of a
  /// UTF-8 character; a special token as it is spelled; empty for no token.
  std::string DecodeToken(std::int32_t id) const;

  /// Token `id` for a terminal: valid UTF-8, printable. Bytes that are no
  /// whole character as `\xE2`, control and direction characters as `\n`,
  /// `\x1B`, `\u{202E}`, a backslash as `\\`, an id without token as `[5000]`.
  std::string DisplayToken(std::int32_t id) const;

  /// The text of `ids` by the file's decoder, special tokens included; ids
  /// without token are left out, bytes that are no UTF-8 become U+FFFD.
  /// Errors: RESOURCE_EXHAUSTED (a regex of the decoder took too many steps).
  absl::StatusOr<std::string> Decode(absl::Span<const std::int32_t> ids) const;

  /// Whether `id` marks something instead of standing for text: an added token
  /// that its file calls special, a control or unknown piece of SentencePiece.
  bool IsSpecial(std::int32_t id) const;

  /// One more than the highest token id, added tokens included.
  std::int32_t vocab_size() const;

  /// The first token that is put before a text, if any.
  std::optional<std::int32_t> bos_id() const;

  /// One line: "BPE, byte-level, 2048 entries", "SentencePiece BPE, byte
  /// fallback, 32000 entries".
  std::string Describe() const;

 private:
  // Load with this for tokenizer_config.json ("": no such file).
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadWith(
      const std::string& folder, absl::string_view tokenizer_config_json);

  explicit Tokenizer(std::unique_ptr<const internal::TextCodec> codec);

  const std::unique_ptr<const internal::TextCodec> codec_;
};

}  // namespace moescope::model
