// From a request to a normalised Spec, its key and its cost; no work is done.
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "moescope/analysis/catalogue.h"
#include "moescope/base/error.h"
#include "moescope/base/field_path.h"
#include "moescope/base/sha256.h"
#include "moescope/base/status_macros.h"
#include "moescope/base/uuid.h"
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

absl::Status NormaliseTokenised(const Service::State& state,
                                const Checkpoints& checkpoints,
                                spec::AnalysisSpec& spec) {
  const std::vector<std::string> names = spec::ModelNames(spec);
  const spec::ModelFacts facts =
      analysis::FactsOf(*checkpoints.front(), names.front());
  spec::SpecLimits limits;
  limits.max_tokens = state.options.max_tokens;
  if (names.size() == 1) {
    return spec::Normalise(facts, nullptr, limits, spec);
  }
  const spec::ModelFacts baseline_facts =
      analysis::FactsOf(*checkpoints[1], names[1]);
  return spec::Normalise(facts, &baseline_facts, limits, spec);
}

absl::Status NormaliseSpec(const Service::State& state,
                           const AnalysisRequest& request,
                           const Checkpoints& checkpoints,
                           spec::AnalysisSpec& spec) {
  MOESCOPE_RETURN_IF_ERROR(
      analysis::RequireForward(spec, *checkpoints.front()));
  if (request.input.documents.empty()) {
    return NormaliseTokenised(state, checkpoints, spec);
  }
  spec::TokenInput* const input = spec::MutableTokenInput(spec);
  if (input == nullptr) {
    return InvalidField("input", absl::StrCat(spec::AnalysisName(spec),
                                              " reads weights only and takes "
                                              "no input"));
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      *input, TokeniseDocuments(*checkpoints.front(), request.input));
  // The client wrote documents, not the Spec's tokens.
  return RenameField(NormaliseTokenised(state, checkpoints, spec), "spec.input",
                     "input");
}

// The key of a normalised Spec over models with these identities.
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

std::optional<ResultRow> FindAnswer(Service::State& state,
                                    absl::string_view key) {
  auto row = state.store->GetResult(key);
  return row.ok() && state.results->HasSealed(row->key)
             ? std::make_optional(*std::move(row))
             : std::nullopt;
}

// The key to file an answer under, and the answer where it is there.
struct ChosenKey {
  std::string key;
  std::optional<ResultRow> answer;
};

// Of `keys` the first, unless the answer is under way under another. One that
// was filed before the content was known is also filed under the first.
absl::StatusOr<ChosenKey> ChooseKey(Service::State& state,
                                    const std::vector<std::string>& keys) {
  std::optional<ResultRow> answer = FindAnswer(state, keys.front());
  for (std::size_t i = 1; i < keys.size() && !answer.has_value(); ++i) {
    answer = FindAnswer(state, keys[i]);
    if (answer.has_value()) {
      MOESCOPE_RETURN_IF_ERROR(
          state.store->AddResultAlias(keys[i], keys.front()));
      break;
    }
    MOESCOPE_ASSIGN_OR_RETURN(const std::optional<JobRecord> live,
                              state.store->FindLiveJob(keys[i]));
    if (live.has_value()) {
      return ChosenKey{keys[i], std::nullopt};
    }
  }
  return ChosenKey{keys.front(), std::move(answer)};
}

// `check` of each of the checkpoints; names the model in the error.
template <class Check>
absl::Status CheckEach(const spec::AnalysisSpec& spec,
                       const Checkpoints& checkpoints, Check check) {
  const std::vector<std::string> names = spec::ModelNames(spec);
  for (std::size_t i = 0; i < checkpoints.size(); ++i) {
    const absl::Status status = check(*checkpoints[i]);
    if (!status.ok()) {
      return Annotate(status, absl::StrCat("model \"", names[i], "\""));
    }
  }
  return absl::OkStatus();
}

constexpr std::size_t kQuestionDigits = 32;

}  // namespace

absl::StatusOr<Checkpoints> OpenCheckpoints(Service::State& state,
                                            const spec::AnalysisSpec& spec) {
  const std::vector<std::string> names = spec::ModelNames(spec);
  if (names.front().empty()) {
    return InvalidField("spec.model", "is empty: name a model");
  }
  Checkpoints checkpoints;
  for (const std::string& name : names) {
    auto checkpoint = state.registry->OpenCheckpoint(name);
    if (!checkpoint.ok()) {
      return RenameField(checkpoint.status(), "model",
                         checkpoints.empty() ? "spec.model" : "spec.baseline");
    }
    checkpoints.push_back(*std::move(checkpoint));
  }
  return checkpoints;
}

absl::Status CheckUndamaged(const Service::State& state,
                            const spec::AnalysisSpec& spec,
                            const Checkpoints& checkpoints) {
  return CheckEach(spec, checkpoints, [&](const model::Checkpoint& checkpoint) {
    return state.identities->CheckUndamaged(checkpoint);
  });
}

absl::Status CheckIntact(const Service::State& state,
                         const spec::AnalysisSpec& spec,
                         const Checkpoints& checkpoints) {
  MOESCOPE_RETURN_IF_ERROR(CheckUndamaged(state, spec, checkpoints));
  return CheckEach(spec, checkpoints, [](const model::Checkpoint& checkpoint) {
    return checkpoint.CheckIntact();
  });
}

std::vector<std::string> ModelIdentities(const Service::State& state,
                                         const Checkpoints& checkpoints) {
  std::vector<std::string> identities;
  for (const auto& checkpoint : checkpoints) {
    identities.push_back(state.identities->Identify(*checkpoint).id);
  }
  return identities;
}

std::vector<std::string> PossibleKeys(const Service::State& state,
                                      const spec::AnalysisSpec& spec,
                                      const Checkpoints& checkpoints) {
  return PossibleKeys(state, spec, checkpoints, state.numerics_class);
}

std::vector<std::string> PossibleKeys(const Service::State& state,
                                      const spec::AnalysisSpec& spec,
                                      const Checkpoints& checkpoints,
                                      const std::string& numerics_class) {
  std::vector<std::vector<std::string>> combinations(1);
  const std::vector<std::string> best = ModelIdentities(state, checkpoints);
  for (std::size_t i = 0; i < checkpoints.size(); ++i) {
    std::vector<std::vector<std::string>> longer;
    const std::string& own = checkpoints[i]->identity().id;
    for (std::vector<std::string>& identities : combinations) {
      identities.push_back(best[i]);
      longer.push_back(identities);
      if (own != best[i]) {
        identities.back() = own;
        longer.push_back(identities);
      }
    }
    combinations = std::move(longer);
  }
  std::vector<std::string> keys;
  for (const std::vector<std::string>& identities : combinations) {
    keys.push_back(ComputeKey(spec, identities, numerics_class));
  }
  return keys;
}

analysis::CostEstimate EstimateCost(const Service::State& state,
                                    const spec::AnalysisSpec& spec,
                                    const Checkpoints& checkpoints) {
  analysis::ComputePlace place;
  place.device = state.device;
  place.threads = state.pool->num_threads();
  {
    const MutexLock lock(state.gemm_mutex);
    place.gemm_gflops = state.gemm_gflops.value_or(place.gemm_gflops);
  }
  return analysis::EstimateCost(spec, *checkpoints.front(), place);
}

std::string BypassKey(absl::string_view key) {
  return absl::StrCat(key.substr(0, kQuestionDigits),
                      absl::string_view(Sha256Hex(NewUuidV7(absl::Now())))
                          .substr(kQuestionDigits));
}

bool IsKeyOf(absl::string_view key, absl::string_view of) {
  return key.substr(0, kQuestionDigits) == of.substr(0, kQuestionDigits);
}

absl::StatusOr<PreparedAnalysis> Service::Prepare(
    const AnalysisRequest& request) {
  PreparedAnalysis prepared;
  prepared.spec = request.spec;
  MOESCOPE_ASSIGN_OR_RETURN(Checkpoints checkpoints,
                            OpenCheckpoints(*state_, prepared.spec));
  MOESCOPE_RETURN_IF_ERROR(
      CheckUndamaged(*state_, prepared.spec, checkpoints));
  MOESCOPE_RETURN_IF_ERROR(
      NormaliseSpec(*state_, request, checkpoints, prepared.spec));
  if (request.load_policy == LoadPolicy::kNever) {
    MOESCOPE_RETURN_IF_ERROR(RequireLoaded(*state_, prepared.spec));
  }
  prepared.identities = ModelIdentities(*state_, checkpoints);
  MOESCOPE_ASSIGN_OR_RETURN(
      ChosenKey chosen,
      ChooseKey(*state_, PossibleKeys(*state_, prepared.spec, checkpoints)));
  prepared.key = std::move(chosen.key);
  prepared.cached = chosen.answer.has_value();
  prepared.answer = std::move(chosen.answer);
  prepared.spec_json = codec::SpecToJson(prepared.spec);
  prepared.checkpoints = std::move(checkpoints);
  return prepared;
}

CostView Service::EstimateCost(const PreparedAnalysis& prepared) const {
  const analysis::CostEstimate cost =
      moescope::EstimateCost(*state_, prepared.spec, prepared.checkpoints);
  const spec::TokenInput* const input = spec::GetTokenInput(prepared.spec);
  CostView view;
  view.tokens =
      input == nullptr ? 0 : static_cast<std::int64_t>(input->ids.size());
  view.bytes_read = cost.bytes_read;
  view.flops = cost.flops;
  view.memory_bytes = cost.memory_bytes;
  view.device_bytes = cost.device_bytes;
  view.seconds = cost.seconds;
  return view;
}

}  // namespace moescope
