// Queued work that another version of the program, or this one on another
// processor, has left.
#include <string>
#include <utility>
#include <vector>

#include "moescope/base/log.h"
#include "moescope/base/status_macros.h"
#include "moescope/codec/bytes.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

// Under which key `execution` is to be answered here. Where it can't be
// answered at all (a model that has gone or changed), its own: the run says
// why.
std::string KeyHere(Service::State& state, const spec::AnalysisSpec& spec,
                    const ExecutionRecord& execution) {
  const auto checkpoints = OpenCheckpoints(state, spec);
  if (!checkpoints.ok()) {
    return execution.key;
  }
  const std::vector<std::string> here =
      PossibleKeys(state, spec, *checkpoints);
  if (execution.analysis_version != spec::AnalysisVersion(spec)) {
    // The keys of another version can't be made any more to compare with.
    return here.front();
  }
  const std::vector<std::string> there =
      PossibleKeys(state, spec, *checkpoints, execution.numerics_class);
  for (std::size_t i = 0; i < there.size(); ++i) {
    if (execution.key == there[i]) {
      return here[i];
    }
    if (IsKeyOf(execution.key, there[i])) {
      return BypassKey(here[i]);
    }
  }
  return execution.key;
}

}  // namespace

absl::StatusOr<std::int64_t> TakeOverQueue(Service::State& state,
                                           const ClaimRequest& own) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::string> ids,
                            state.store->ListUnserved(own));
  std::int64_t count = 0;
  for (const std::string& id : ids) {
    MOESCOPE_ASSIGN_OR_RETURN(const ExecutionRecord execution,
                              state.store->GetExecution(id));
    const auto spec = codec::DecodeSpec(execution.spec);
    if (!spec.ok() || spec::AnalysisName(*spec) != execution.analysis) {
      // Of a later version; one that knows it may come back.
      Log(LogLevel::kWarning, "queued_work_not_known",
          {{"execution", id}, {"analysis", execution.analysis}});
      continue;
    }
    Rekeyed rekeyed;
    rekeyed.key = KeyHere(state, *spec, execution);
    rekeyed.numerics_class = state.numerics_class;
    rekeyed.analysis_version = spec::AnalysisVersion(*spec);
    MOESCOPE_RETURN_IF_ERROR(
        state.store->Rekey(id, rekeyed, state.clock.Now()));
    ++count;
  }
  return count;
}

}  // namespace moescope
