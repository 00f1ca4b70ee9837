// From a request to a normalised Spec, its key and its cost; no work is done.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/analysis/catalogue.h"
#include "moescope/base/error.h"
#include "moescope/base/sha256.h"
#include "moescope/base/status_macros.h"
#include "moescope/codec/bytes.h"
#include "moescope/codec/parameters.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

void AppendText(std::string& out, absl::string_view text) {
  absl::StrAppend(&out, text.size(), ":", text);
}

absl::Status RequireLoaded(Service::State& state,
                           const spec::AnalysisSpec& spec) {
  if (!analysis::NeedsModel(spec)) {
    return absl::OkStatus();
  }
  const std::string name = spec::ModelNames(spec).front();
  MOESCOPE_ASSIGN_OR_RETURN(const ModelStatus status,
                            state.registry->Get(name));
  if (status.state != ModelState::kReady) {
    return FieldError(absl::StatusCode::kFailedPrecondition, "spec.model",
                      absl::StrCat("\"", name,
                                   "\" is not loaded, and the load policy "
                                   "forbids to load it"),
                      "MODEL_NOT_LOADED");
  }
  return absl::OkStatus();
}

absl::Status NormaliseSpec(Service::State& state, const AnalysisRequest& request,
                           spec::AnalysisSpec& spec) {
  const std::vector<std::string> names = spec::ModelNames(spec);
  if (names.front().empty()) {
    return InvalidField("spec.model", "is empty: name a model");
  }
  MOESCOPE_ASSIGN_OR_RETURN(const auto checkpoint,
                            state.registry->OpenCheckpoint(names.front()));
  MOESCOPE_RETURN_IF_ERROR(analysis::RequireForward(spec, *checkpoint));
  const spec::ModelFacts facts = analysis::FactsOf(*checkpoint, names.front());
  if (!request.input.documents.empty()) {
    spec::TokenInput* const input = spec::MutableTokenInput(spec);
    if (input == nullptr) {
      return InvalidField("input",
                          absl::StrCat(spec::AnalysisName(spec),
                                       " reads weights only and takes no "
                                       "input"));
    }
    MOESCOPE_ASSIGN_OR_RETURN(*input,
                              TokeniseDocuments(*checkpoint, request.input));
  }
  spec::SpecLimits limits;
  limits.max_tokens = state.options.max_tokens;
  if (names.size() == 1) {
    return spec::Normalise(facts, nullptr, limits, spec);
  }
  const auto baseline = state.registry->OpenCheckpoint(names[1]);
  if (!baseline.ok()) {
    return Annotate(baseline.status(), "spec.baseline");
  }
  const spec::ModelFacts baseline_facts =
      analysis::FactsOf(**baseline, names[1]);
  return spec::Normalise(facts, &baseline_facts, limits, spec);
}

}  // namespace

std::string ComputeKey(const spec::AnalysisSpec& spec,
                       const std::vector<std::string>& identities,
                       const std::string& numerics_class) {
  std::string bytes = "moescope key 1\n";
  AppendText(bytes, codec::CanonicalBytes(spec));
  absl::StrAppend(&bytes, identities.size(), "\n");
  for (const std::string& identity : identities) {
    AppendText(bytes, identity);
  }
  AppendText(bytes, numerics_class);
  return Sha256Hex(bytes);
}

absl::StatusOr<std::vector<std::string>> ModelIdentities(
    Service::State& state, const spec::AnalysisSpec& spec) {
  std::vector<std::string> identities;
  for (const std::string& name : spec::ModelNames(spec)) {
    MOESCOPE_ASSIGN_OR_RETURN(const auto checkpoint,
                              state.registry->OpenCheckpoint(name));
    identities.push_back(checkpoint->identity().id);
  }
  return identities;
}

absl::StatusOr<PreparedAnalysis> Service::Prepare(AnalysisRequest request) {
  PreparedAnalysis prepared;
  prepared.spec = std::move(request.spec);
  MOESCOPE_RETURN_IF_ERROR(NormaliseSpec(*state_, request, prepared.spec));
  if (request.load_policy == LoadPolicy::kNever) {
    MOESCOPE_RETURN_IF_ERROR(RequireLoaded(*state_, prepared.spec));
  }
  MOESCOPE_ASSIGN_OR_RETURN(prepared.identities,
                            ModelIdentities(*state_, prepared.spec));
  prepared.key = ComputeKey(prepared.spec, prepared.identities,
                            state_->numerics_class);
  prepared.spec_json = codec::SpecToJson(prepared.spec);
  MOESCOPE_ASSIGN_OR_RETURN(
      const auto checkpoint,
      state_->registry->OpenCheckpoint(
          spec::ModelNames(prepared.spec).front()));
  const analysis::CostEstimate cost =
      analysis::EstimateCost(prepared.spec, *checkpoint);
  prepared.cost = {cost.bytes_read, cost.flops, cost.memory_bytes,
                   cost.seconds};
  prepared.cached = state_->store->GetResult(prepared.key).ok() &&
                    state_->results->HasSealed(prepared.key);
  return prepared;
}

}  // namespace moescope
