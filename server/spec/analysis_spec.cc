#include "moescope/spec/analysis_spec.h"

#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/error.h"
#include "moescope/base/quote_name.h"

namespace moescope::spec {
namespace {

template <typename T, typename = void>
struct HasInput : std::false_type {};
template <typename T>
struct HasInput<T, std::void_t<decltype(std::declval<T>().input)>>
    : std::true_type {};

template <typename T, typename = void>
struct HasBaseline : std::false_type {};
template <typename T>
struct HasBaseline<T, std::void_t<decltype(std::declval<T>().baseline)>>
    : std::true_type {};

// Tries each alternative of the variant in turn.
template <std::size_t I = 0>
std::optional<AnalysisSpec> FindSpec(absl::string_view name,
                                     std::vector<std::string>& known) {
  if constexpr (I < std::variant_size_v<AnalysisSpec>) {
    using T = std::variant_alternative_t<I, AnalysisSpec>;
    if (name == T::kName) {
      return T{};
    }
    known.emplace_back(T::kName);
    return FindSpec<I + 1>(name, known);
  } else {
    return std::nullopt;
  }
}

}  // namespace

const std::vector<std::string>& TraceFields() {
  static const auto* const fields = new std::vector<std::string>{
      "ids",
      "weights",
      "logits",
      "scores",
      "margin",
      "entropy",
      "choice",
      "group_mask",
      "shared_share",
      "attention_ids",
      "attention_weights",
      "attention_logits",
      "attention_scores",
      "attention_margin",
      "attention_entropy"};
  return *fields;
}

const std::vector<std::string>& MaskedGroupsWords() {
  static const auto* const words =
      new std::vector<std::string>{"model", "zero", "negative_infinity"};
  return *words;
}

std::optional<bool> RoutingTraceSpec::MaskedGroupsAreZero() const {
  if (masked_groups == "model") return std::nullopt;
  return masked_groups == "zero";
}

const std::vector<std::string>& SimilarityLevels() {
  static const auto* const levels =
      new std::vector<std::string>{"matrix", "neuron_average", "router"};
  return *levels;
}

const std::vector<std::string>& PcaOutputs() {
  static const auto* const outputs =
      new std::vector<std::string>{"scores", "sample", "bins"};
  return *outputs;
}

const std::vector<std::string>& ProjectionNames() {
  static const auto* const names =
      new std::vector<std::string>{"gate_proj", "up_proj", "down_proj"};
  return *names;
}

const std::vector<std::string>& MatchingProjections() {
  static const auto* const names = new std::vector<std::string>{
      "gate_proj", "up_proj", "down_proj", "joint"};
  return *names;
}

absl::StatusOr<AnalysisSpec> DefaultSpec(absl::string_view name) {
  std::vector<std::string> known;
  std::optional<AnalysisSpec> spec = FindSpec(name, known);
  if (!spec.has_value()) {
    return FieldError(absl::StatusCode::kNotFound, "analysis",
                      absl::StrCat(QuoteName(name), " is none of ",
                                   absl::StrJoin(known, ", ")),
                      "UNKNOWN_ANALYSIS");
  }
  return *std::move(spec);
}

absl::string_view AnalysisName(const AnalysisSpec& spec) {
  return std::visit([](const auto& s) { return s.kName; }, spec);
}

int AnalysisVersion(const AnalysisSpec& spec) {
  return std::visit([](const auto& s) { return s.kVersion; }, spec);
}

std::vector<std::string> ModelNames(const AnalysisSpec& spec) {
  return std::visit(
      [](const auto& s) {
        std::vector<std::string> names = {s.model};
        if constexpr (HasBaseline<decltype(s)>::value) {
          if (!s.baseline.empty()) {
            names.push_back(s.baseline);
          }
        }
        return names;
      },
      spec);
}

const TokenInput* GetTokenInput(const AnalysisSpec& spec) {
  return std::visit(
      [](const auto& s) -> const TokenInput* {
        if constexpr (HasInput<decltype(s)>::value) {
          return &s.input;
        } else {
          return nullptr;
        }
      },
      spec);
}

TokenInput* MutableTokenInput(AnalysisSpec& spec) {
  return std::visit(
      [](auto& s) -> TokenInput* {
        if constexpr (HasInput<decltype(s)>::value) {
          return &s.input;
        } else {
          return nullptr;
        }
      },
      spec);
}

}  // namespace moescope::spec
