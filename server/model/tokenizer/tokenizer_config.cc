#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/model/tokenizer/tokenizer_config_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

// A class of transformers 4 that builds the post-processor anew, and the
// defaults of its constructor; add_eos_token is false for all of them.
struct RebuildingClass {
  absl::string_view name;
  bool add_bos;
  const char* bos_token;
  const char* eos_token;
};

constexpr RebuildingClass kRebuildingClasses[] = {
    {"LlamaTokenizer", true, "<s>", "</s>"},
    {"CodeLlamaTokenizer", true, "<s>", "</s>"},
    {"GemmaTokenizer", true, "<bos>", "<eos>"},
    {"CohereTokenizer", true, "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"},
    {"GPTNeoXTokenizer", false, "<|endoftext|>", "<|endoftext|>"},
};

bool IsAbsent(const JsonNode& config, const char* key) {
  return config.value().find(key) == config.value().end();
}

absl::StatusOr<bool> ReadFlag(const JsonNode& config, const char* key,
                              bool default_value) {
  if (IsAbsent(config, key)) return default_value;
  return config.Bool(key, /*default_value=*/false);
}

// A token is a string, or an object that holds it as "content".
absl::StatusOr<std::optional<std::string>> ReadToken(
    const JsonNode& config, const char* key,
    std::optional<std::string> default_value) {
  if (IsAbsent(config, key)) return default_value;
  MOESCOPE_ASSIGN_OR_RETURN(const JsonNode token, config.Get(key));
  if (!token.value().is_object()) return config.OptionalString(key);
  MOESCOPE_ASSIGN_OR_RETURN(std::string content, token.String("content"));
  return std::optional<std::string>(std::move(content));
}

absl::Status CheckNamed(bool is_added, const std::optional<std::string>& token,
                        const std::string& kind) {
  if (!is_added || token.has_value()) return absl::OkStatus();
  return BrokenTokenizer(
      absl::StrCat(kind, "_token"),
      absl::StrCat("is null; it must name a token, or add_", kind,
                   "_token must be false"));
}

}  // namespace

absl::StatusOr<BosEos> ReadBosEos(const JsonNode& config, BosEos defaults) {
  BosEos read;
  MOESCOPE_ASSIGN_OR_RETURN(
      read.add_bos, ReadFlag(config, "add_bos_token", defaults.add_bos));
  MOESCOPE_ASSIGN_OR_RETURN(
      read.add_eos, ReadFlag(config, "add_eos_token", defaults.add_eos));
  MOESCOPE_ASSIGN_OR_RETURN(
      read.bos_token,
      ReadToken(config, "bos_token", std::move(defaults.bos_token)));
  MOESCOPE_ASSIGN_OR_RETURN(
      read.eos_token,
      ReadToken(config, "eos_token", std::move(defaults.eos_token)));
  return read;
}

absl::StatusOr<std::string> WithSpecialTokensMap(absl::string_view text,
                                                 absl::string_view map) {
  auto config = ParseJson(text.empty() ? "{}" : text);
  if (!config.ok()) return Annotate(config.status(), "tokenizer_config.json");
  if (config->contains("added_tokens_decoder")) return std::string(text);
  const auto tokens = ParseJson(map);
  if (!tokens.ok()) return Annotate(tokens.status(), "special_tokens_map.json");
  for (const char* key : {"bos_token", "eos_token"}) {
    const auto token = tokens->find(key);
    if (token != tokens->end()) (*config)[key] = *token;
  }
  return config->dump();
}

absl::StatusOr<std::optional<BosEos>> ReadRebuiltPostProcessor(
    absl::string_view text) {
  MOESCOPE_ASSIGN_OR_RETURN(const nlohmann::json document, ParseJson(text));
  const JsonNode config(document, "");
  MOESCOPE_ASSIGN_OR_RETURN(const auto class_name,
                            config.OptionalString("tokenizer_class"));
  if (!class_name.has_value()) return std::optional<BosEos>();
  const absl::string_view name = absl::StripSuffix(*class_name, "Fast");
  const auto* const found = std::find_if(
      std::begin(kRebuildingClasses), std::end(kRebuildingClasses),
      [name](const RebuildingClass& known) { return known.name == name; });
  if (found == std::end(kRebuildingClasses)) return std::optional<BosEos>();
  MOESCOPE_ASSIGN_OR_RETURN(
      BosEos around, ReadBosEos(config, {found->add_bos, /*add_eos=*/false,
                                         found->bos_token, found->eos_token}));
  MOESCOPE_RETURN_IF_ERROR(
      CheckNamed(around.add_bos, around.bos_token, "bos"));
  MOESCOPE_RETURN_IF_ERROR(
      CheckNamed(around.add_eos, around.eos_token, "eos"));
  return std::optional<BosEos>(std::move(around));
}

}  // namespace moescope::model::internal
