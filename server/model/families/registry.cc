#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "server/model/families/family_internal.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model {
namespace internal {

Family DeepseekFamily();
Family DeepseekV2Family();
Family DeepseekV3Family();
Family LlamaFamily();
Family MistralFamily();
Family MixtralFamily();
Family OlmoeFamily();
Family Qwen2MoeFamily();
Family Qwen3MoeFamily();

absl::Span<const Family> Families() {
  // Never destroyed: other threads may still look while the process exits.
  static const auto* const kFamilies = new std::vector<Family>{
      DeepseekFamily(),
      DeepseekV2Family(),
      DeepseekV3Family(),
      LlamaFamily(),
      MistralFamily(),
      MixtralFamily(),
      OlmoeFamily(),
      Qwen2MoeFamily(),
      Qwen3MoeFamily(),
  };
  return *kFamilies;
}

absl::Status ForForwardAlone(absl::Status status, ModelConfig& config) {
  if (!absl::IsUnimplemented(status)) return status;
  if (config.forward_status.ok()) config.forward_status = std::move(status);
  return absl::OkStatus();
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
