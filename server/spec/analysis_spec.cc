#include "moescope/spec/analysis_spec.h"

#include <cstddef>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/error.h"

namespace moescope::spec {
namespace {

template <std::size_t... I>
std::vector<AnalysisSpec> Defaults(std::index_sequence<I...>) {
  return {std::variant_alternative_t<I, AnalysisSpec>{}...};
}

// Finds the token input among a Spec's fields.
template <class Input>
struct InputFinder {
  Input* input = nullptr;
  void operator()(absl::string_view, Input& found) { input = &found; }
  template <class Other>
  void operator()(absl::string_view, Other&) {}
};

template <class Input, class Spec>
Input* FindInput(Spec& spec) {
  return std::visit(
      [](auto& alternative) {
        InputFinder<Input> finder;
        std::decay_t<decltype(alternative)>::VisitFields(alternative, finder);
        return finder.input;
      },
      spec);
}

}  // namespace

const std::vector<std::string>& TraceFields() {
  static const auto* const kFields =
      new std::vector<std::string>{"ids",    "weights", "logits",      "scores",
                                   "margin", "entropy", "shared_share"};
  return *kFields;
}

const std::vector<std::string>& SimilarityLevels() {
  static const auto* const kLevels =
      new std::vector<std::string>{"matrix", "neuron_average", "router"};
  return *kLevels;
}

const std::vector<std::string>& ProjectionNames() {
  static const auto* const kNames =
      new std::vector<std::string>{"gate_proj", "up_proj", "down_proj"};
  return *kNames;
}

absl::StatusOr<AnalysisSpec> DefaultSpec(absl::string_view name) {
  std::vector<absl::string_view> names;
  for (AnalysisSpec& spec : Defaults(
           std::make_index_sequence<std::variant_size_v<AnalysisSpec>>())) {
    if (AnalysisName(spec) == name) {
      return std::move(spec);
    }
    names.push_back(AnalysisName(spec));
  }
  return FieldError(absl::StatusCode::kNotFound, "analysis",
                    absl::StrCat("\"", name, "\" is unknown; known: ",
                                 absl::StrJoin(names, ", ")),
                    "ANALYSIS_NOT_FOUND");
}

absl::string_view AnalysisName(const AnalysisSpec& spec) {
  return std::visit(
      [](const auto& alternative) {
        return std::decay_t<decltype(alternative)>::kName;
      },
      spec);
}

int AnalysisVersion(const AnalysisSpec& spec) {
  return std::visit(
      [](const auto& alternative) {
        return std::decay_t<decltype(alternative)>::kVersion;
      },
      spec);
}

std::vector<std::string> ModelNames(const AnalysisSpec& spec) {
  std::vector<std::string> names;
  std::visit(
      [&names](const auto& alternative) {
        std::decay_t<decltype(alternative)>::VisitFields(
            alternative, [&names](absl::string_view field, const auto& value) {
              if constexpr (std::is_same_v<std::decay_t<decltype(value)>,
                                           std::string>) {
                if (field == "model" ||
                    (field == "baseline" && !value.empty())) {
                  names.push_back(value);
                }
              }
            });
      },
      spec);
  return names;
}

const TokenInput* GetTokenInput(const AnalysisSpec& spec) {
  return FindInput<const TokenInput>(spec);
}

TokenInput* MutableTokenInput(AnalysisSpec& spec) {
  return FindInput<TokenInput>(spec);
}

}  // namespace moescope::spec
