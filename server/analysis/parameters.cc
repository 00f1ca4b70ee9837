#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/analysis/parameters_internal.h"

namespace moescope::analysis::internal {
namespace {

spec::ParameterInfo Typed(std::string type, std::string default_value) {
  spec::ParameterInfo info;
  info.type = std::move(type);
  info.default_value = std::move(default_value);
  return info;
}

// Defaults are plain words: nothing in them needs escaping.
std::string Quoted(const std::string& value) {
  return absl::StrCat("\"", value, "\"");
}

}  // namespace

spec::ParameterInfo Describe(bool value) {
  return Typed("bool", value ? "true" : "false");
}

spec::ParameterInfo Describe(std::int64_t value) {
  return Typed("int64", absl::StrCat(value));
}

spec::ParameterInfo Describe(const std::string& value) {
  return Typed("string", Quoted(value));
}

spec::ParameterInfo Describe(const std::vector<std::int64_t>& value) {
  return Typed("list of int64",
               absl::StrCat("[", absl::StrJoin(value, ", "), "]"));
}

spec::ParameterInfo Describe(const std::vector<double>& value) {
  return Typed("list of double",
               absl::StrCat("[", absl::StrJoin(value, ", "), "]"));
}

spec::ParameterInfo Describe(const std::vector<std::string>& value) {
  std::vector<std::string> words;
  words.reserve(value.size());
  for (const std::string& word : value) {
    words.push_back(Quoted(word));
  }
  return Typed("list of string",
               absl::StrCat("[", absl::StrJoin(words, ", "), "]"));
}

spec::ParameterInfo Describe(const spec::TokenInput& /*value*/) {
  return Typed("token input", "null");
}

const char* const kModelMeaning =
    "Name of a Mixture-of-Experts model that the server knows.";
const char* const kInputMeaning =
    "The text: token ids as whole sequences, or text that the model's "
    "tokenizer turns into them. Attention never crosses sequences.";
const char* const kLayersMeaning = "MoE layers to look at; empty: all.";
const char* const kProjectionsMeaning =
    "Among gate_proj, up_proj, down_proj; empty: all.";
const char* const kParticipantsMeaning =
    "Who takes part: \"0\" to \"E-1\" routed experts, \"S\" the shared "
    "experts' block, \"F\" the baseline's block; empty: all routed experts, "
    "with S if include_shared and F if there is a baseline.";
const char* const kIncludeSharedMeaning =
    "Whether the shared experts' block takes part, as S.";
const char* const kBaselineMeaning =
    "Name of a dense model of the same width whose feed-forward block of the "
    "same layer takes part, as F; empty: none.";
const char* const kBlockTokensMeaning =
    "Tokens go through the model in blocks of whole sequences of at most this "
    "many tokens (a longer sequence is a block of its own), 64 to 1048576.";

}  // namespace moescope::analysis::internal
