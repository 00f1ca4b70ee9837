#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/status_macros.h"
#include "server/model/families/family_internal.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model {
namespace internal {

Family DbrxFamily();
Family DeepseekFamily();
Family DeepseekV2Family();
Family DeepseekV3Family();
Family GptOssFamily();
Family Grok1Family();
Family JetmoeFamily();
Family Llama4Family();
Family LlamaFamily();
Family MistralFamily();
Family MixtralFamily();
Family OlmoeFamily();
Family PhimoeFamily();
Family Qwen2MoeFamily();
Family Qwen3MoeFamily();

absl::Span<const Family> Families() {
  // Never destroyed: other threads may still look while the process exits.
  static const auto* const kFamilies = new std::vector<Family>{
      DbrxFamily(),
      DeepseekFamily(),
      DeepseekV2Family(),
      DeepseekV3Family(),
      GptOssFamily(),
      Grok1Family(),
      JetmoeFamily(),
      Llama4Family(),
      LlamaFamily(),
      MistralFamily(),
      MixtralFamily(),
      OlmoeFamily(),
      PhimoeFamily(),
      Qwen2MoeFamily(),
      Qwen3MoeFamily(),
  };
  return *kFamilies;
}

void ForForwardAlone(absl::Status status, ModelConfig& config) {
  if (config.forward_status.ok()) config.forward_status = std::move(status);
}

absl::StatusOr<const Family*> FindFamily(absl::string_view model_type) {
  for (const Family& family : Families()) {
    for (const std::string& known : family.model_types) {
      if (known == model_type) return &family;
    }
  }
  return absl::UnimplementedError(absl::StrCat(
      "model_type: ", QuoteName(model_type), " is not supported (known: ",
      absl::StrJoin(KnownModelTypes(), ", "), ")"));
}

namespace {

// The class that auto_map has for causal language models, without the file in
// front of it ("modeling_grok1.Grok1ModelForCausalLM"); empty without one.
absl::StatusOr<std::vector<std::string>> MappedClass(
    const ConfigReader& json) {
  constexpr const char* kKey = "AutoModelForCausalLM";
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> map,
                            json.Object("auto_map"));
  if (!map.has_value() || !map->Has(kKey)) return std::vector<std::string>();
  MOESCOPE_ASSIGN_OR_RETURN(const std::string name, map->String(kKey));
  return std::vector<std::string>{name.substr(name.rfind('.') + 1)};
}

}  // namespace

absl::StatusOr<const Family*> FindFamily(const ConfigReader& json) {
  if (json.Has("model_type")) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::string model_type,
                              json.String("model_type"));
    return FindFamily(model_type);
  }
  MOESCOPE_ASSIGN_OR_RETURN(std::vector<std::string> architectures,
                            json.Strings("architectures"));
  if (architectures.empty()) {
    MOESCOPE_ASSIGN_OR_RETURN(architectures, MappedClass(json));
  }
  if (architectures.empty()) {
    return absl::DataLossError(
        "model_type: missing, and so are architectures and "
        "auto_map.AutoModelForCausalLM");
  }
  for (const std::string& architecture : architectures) {
    for (const Family& family : Families()) {
      if (std::count(family.architectures.begin(), family.architectures.end(),
                     architecture) > 0) {
        return &family;
      }
    }
  }
  return absl::DataLossError(absl::StrCat(
      "model_type: missing, and architectures ",
      QuoteName(absl::StrJoin(architectures, ", ")), " names no family"));
}

const Family* FamilyOf(const ModelConfig& config) {
  const auto typed = FindFamily(config.model_type);
  if (typed.ok()) return *typed;
  for (const Family& family : Families()) {
    if (family.name == config.family) return &family;
  }
  return nullptr;
}

}  // namespace internal

std::vector<std::string> KnownModelTypes() {
  std::vector<std::string> types;
  for (const internal::Family& family : internal::Families()) {
    types.insert(types.end(), family.model_types.begin(),
                 family.model_types.end());
  }
  std::sort(types.begin(), types.end());
  return types;
}

}  // namespace moescope::model
