// Who takes part in a comparison.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/spec/participants_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/quote_name.h"
#include "moescope/base/status_macros.h"

namespace moescope::spec::internal {
namespace {

absl::Status CheckParticipant(const ModelFacts& model,
                              const ModelFacts* baseline,
                              const std::string& participant) {
  constexpr absl::string_view kField = "spec.participants";
  if (participant == "S") {
    return model.has_shared_experts
               ? absl::OkStatus()
               : FieldError(absl::StatusCode::kFailedPrecondition, kField,
                            absl::StrCat("model \"", model.name,
                                         "\" has no shared experts"),
                            "ANALYSIS_DOES_NOT_FIT");
  }
  if (participant == "F") {
    return baseline != nullptr
               ? absl::OkStatus()
               : InvalidField(kField, "\"F\" needs spec.baseline");
  }
  std::int64_t expert = -1;
  if (!absl::SimpleAtoi(participant, &expert) ||
      absl::StrCat(expert) != participant) {
    return InvalidField(kField, absl::StrCat(QuoteName(participant),
                                             " is no expert number, \"S\" or "
                                             "\"F\""));
  }
  if (expert < 0 || expert >= model.num_experts) {
    return FieldError(absl::StatusCode::kOutOfRange, kField,
                      absl::StrCat("expert ", expert, " is outside [0, ",
                                   model.num_experts - 1, "]"),
                      "EXPERT_OUT_OF_RANGE");
  }
  return absl::OkStatus();
}

absl::Status CheckBaseline(const ModelFacts& model,
                           const ModelFacts& baseline) {
  if (!baseline.is_dense || baseline.width != model.width) {
    return FieldError(
        absl::StatusCode::kFailedPrecondition, "spec.baseline",
        absl::StrCat("\"", baseline.name, "\" is no dense model of width ",
                     model.width),
        "ANALYSIS_DOES_NOT_FIT");
  }
  return absl::OkStatus();
}

bool Contains(const std::vector<std::string>& names, absl::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::int64_t WidthOf(absl::string_view who, const ModelFacts& model,
                     const ModelFacts* baseline) {
  if (who == "S") {
    return model.shared_width;
  }
  return who == "F" && baseline != nullptr ? baseline->dense_width
                                           : model.expert_width;
}

std::string DescribeWidth(absl::string_view who, std::int64_t neurons,
                          const ModelFacts& model) {
  return absl::StrCat("\"", who, "\" has ", neurons,
                      " neurons, a routed expert of \"", model.name, "\" has ",
                      model.expert_width);
}

absl::Status RefuseNamed(std::size_t place, absl::string_view message) {
  return FieldError(absl::StatusCode::kInvalidArgument,
                    absl::StrCat("spec.participants[", place, "]"), message,
                    "ANALYSIS_DOES_NOT_FIT");
}

std::optional<std::size_t> Find(const std::vector<std::string>& names,
                                absl::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end()
             ? std::nullopt
             : std::make_optional<std::size_t>(found - names.begin());
}

// Where the client's own list has `who`; not where it follows from defaults, as
// it also does in a normalised Spec that is sent again.
std::optional<std::size_t> FindNamed(absl::string_view who,
                                     const std::vector<std::string>& asked,
                                     bool include_shared,
                                     const ModelFacts& model) {
  const std::optional<std::size_t> place = Find(asked, who);
  if (who == "S") {
    return include_shared ? std::nullopt : place;
  }
  std::int64_t experts = 0;
  while (experts < model.num_experts &&
         Contains(asked, absl::StrCat(experts))) {
    ++experts;
  }
  return experts == model.num_experts ? std::nullopt : place;
}

// Takes `who` of `neurons` neurons out of the sorted participants unless a
// routed expert has as many. Refuses what was asked for by name (at `named`),
// and pairs that reach its place: they would mean somebody else.
absl::Status LeaveOutUnlessFitting(absl::string_view who, std::int64_t neurons,
                                   std::optional<std::size_t> named,
                                   const ModelFacts& model,
                                   NeuronMatchingSpec& spec) {
  const auto found =
      std::find(spec.participants.begin(), spec.participants.end(), who);
  if (found == spec.participants.end() || neurons == model.expert_width) {
    return absl::OkStatus();
  }
  const std::int64_t place = found - spec.participants.begin();
  const std::string message = DescribeWidth(who, neurons, model);
  if (named.has_value()) {
    return RefuseNamed(*named, message);
  }
  if (std::any_of(spec.pairs.begin(), spec.pairs.end(),
                  [place](std::int64_t other) { return other >= place; })) {
    return FieldError(absl::StatusCode::kFailedPrecondition,
                      "spec.participants", message, "ANALYSIS_DOES_NOT_FIT");
  }
  spec.participants.erase(found);
  return absl::OkStatus();
}

absl::Status RequireCount(const ModelFacts& model, std::int64_t count,
                          std::int64_t least, bool chosen) {
  if (count >= least) {
    return absl::OkStatus();
  }
  const std::string message = absl::StrCat(count, " takes part; at least ",
                                           least, " are needed");
  if (chosen) {
    return InvalidField("spec.participants", message);
  }
  return FieldError(absl::StatusCode::kFailedPrecondition, "spec.model",
                    absl::StrCat("of \"", model.name, "\" ", message),
                    "ANALYSIS_DOES_NOT_FIT");
}

}  // namespace

absl::Status NormaliseParticipants(const ModelFacts& model,
                                   const ModelFacts* baseline,
                                   const ParticipantFields& spec) {
  if (baseline != nullptr) {
    MOESCOPE_RETURN_IF_ERROR(CheckBaseline(model, *baseline));
    const std::int64_t last = spec.layers.back();
    if (last >= baseline->num_layers) {
      return FieldError(absl::StatusCode::kOutOfRange, "spec.layers",
                        absl::StrCat("baseline \"", baseline->name,
                                     "\" has no layer ", last),
                        "LAYER_OUT_OF_RANGE");
    }
  }
  std::vector<std::string>& names = spec.participants;
  if (names.empty()) {
    for (std::int64_t e = 0; e < model.num_experts; ++e) {
      names.push_back(absl::StrCat(e));
    }
    if (baseline != nullptr) {
      names.emplace_back("F");
    }
  }
  if (spec.include_shared) {
    names.emplace_back("S");
  }
  std::set<std::int64_t> experts;
  for (const std::string& name : names) {
    MOESCOPE_RETURN_IF_ERROR(CheckParticipant(model, baseline, name));
    if (std::int64_t expert = 0; absl::SimpleAtoi(name, &expert)) {
      experts.insert(expert);
    }
  }
  const bool baseline_takes_part = Contains(names, "F");
  spec.include_shared = Contains(names, "S");
  names.clear();
  for (const std::int64_t expert : experts) {
    names.push_back(absl::StrCat(expert));
  }
  if (spec.include_shared) {
    names.emplace_back("S");
  }
  if (baseline_takes_part) {
    names.emplace_back("F");
  } else {
    // A baseline that takes no part must not make another key.
    spec.baseline.clear();
  }
  return absl::OkStatus();
}

absl::Status NormaliseFitting(const ModelFacts& model,
                              const ModelFacts* baseline,
                              const FittingRule& rule,
                              const ParticipantFields& spec) {
  const std::vector<std::string> asked = spec.participants;
  const bool include_shared = spec.include_shared;
  MOESCOPE_RETURN_IF_ERROR(NormaliseParticipants(model, baseline, spec));
  std::int64_t count = 0;
  for (const std::string& who : spec.participants) {
    const bool routed = who != "S" && who != "F";
    const std::int64_t neurons = WidthOf(who, model, baseline);
    if (routed || (!rule.routed_only && neurons == model.expert_width)) {
      ++count;
      continue;
    }
    if (const auto named = FindNamed(who, asked, include_shared, model)) {
      return RefuseNamed(
          *named, absl::StrCat(rule.routed_only
                                   ? absl::StrCat("\"", who,
                                                  "\" is no routed expert")
                                   : DescribeWidth(who, neurons, model),
                               ": ", rule.explanation));
    }
  }
  return RequireCount(model, count, rule.least, !asked.empty());
}

absl::Status NormaliseMatched(const ModelFacts& model,
                              const ModelFacts* baseline,
                              NeuronMatchingSpec& spec) {
  const bool chosen = !spec.participants.empty();
  const std::optional<std::size_t> shared_named = Find(spec.participants, "S");
  const std::optional<std::size_t> baseline_named =
      Find(spec.participants, "F");
  MOESCOPE_RETURN_IF_ERROR(NormaliseParticipants(model, baseline, spec));
  MOESCOPE_RETURN_IF_ERROR(LeaveOutUnlessFitting(
      "S", model.shared_width, shared_named, model, spec));
  if (baseline != nullptr) {
    MOESCOPE_RETURN_IF_ERROR(LeaveOutUnlessFitting(
        "F", baseline->dense_width, baseline_named, model, spec));
  }
  // Who takes no part must not make another key.
  spec.include_shared = Contains(spec.participants, "S");
  if (!Contains(spec.participants, "F")) {
    spec.baseline.clear();
  }
  return RequireCount(model,
                      static_cast<std::int64_t>(spec.participants.size()), 2,
                      chosen);
}

}  // namespace moescope::spec::internal
