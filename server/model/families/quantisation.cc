#include "server/model/families/quantisation_internal.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {
namespace {

constexpr const char* kKey = "quantization_config";
// What compressed-tensors wrote at first.
constexpr const char* kFirstKey = "compression_config";
constexpr IntegerRange kBlockRange = {1, 1 << 20};

const char* MethodName(Quantisation quantisation) {
  switch (quantisation) {
    case Quantisation::kNone:
      break;
    case Quantisation::kFloat8Blocks:
      return "fp8";
    case Quantisation::kMxfp4:
      return "mxfp4";
  }
  return "";
}

absl::Status ParseFloat8(const ConfigReader& json, ModelConfig& config) {
  constexpr const char* kBlockKey = "weight_block_size";
  MOESCOPE_RETURN_IF_ERROR(
      json.RequireString("fmt", {"e4m3", "float8_e4m3fn"}));
  MOESCOPE_RETURN_IF_ERROR(json.RequireString("activation_scheme", {"dynamic"}));
  if (json.Mentions(kBlockKey) && !json.Has(kBlockKey)) {
    return json.NotSupported(kBlockKey, "null, one scale for a whole matrix,",
                             "[rows, columns] of a block is");
  }
  using Pair = std::array<std::int64_t, 2>;
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<Pair> block,
                            json.OptionalIntegerPair(kBlockKey, kBlockRange));
  if (block.has_value()) {
    config.scale_block_rows = (*block)[0];
    config.scale_block_cols = (*block)[1];
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseQuantisation(const ConfigReader& json,
                               absl::Span<const Quantisation> supported,
                               ModelConfig& config) {
  if (json.Has(kFirstKey)) {
    return absl::UnimplementedError(
        absl::StrCat(kFirstKey, ": compressed tensors are not supported"));
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> quantised,
                            json.Object(kKey));
  if (!quantised.has_value() || quantised->empty()) return absl::OkStatus();
  MOESCOPE_ASSIGN_OR_RETURN(const std::string method,
                            quantised->StringOr("quant_method", ""));
  const auto found = std::find_if(
      supported.begin(), supported.end(),
      [&](Quantisation known) { return method == MethodName(known); });
  if (found == supported.end()) {
    std::vector<std::string> names;
    for (const Quantisation known : supported) {
      names.emplace_back(MethodName(known));
    }
    return quantised->NotSupported(
        "quant_method", QuoteName(method),
        names.empty() ? "weights of this family must be plain numbers"
                      : absl::StrCat(absl::StrJoin(names, ", "), " is"));
  }
  config.quantisation = *found;
  return *found == Quantisation::kFloat8Blocks ? ParseFloat8(*quantised, config)
                                               : absl::OkStatus();
}

}  // namespace moescope::model::internal
