// The calls of Service about models.
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/sha256.h"
#include "moescope/base/status_macros.h"
#include "moescope/base/uuid.h"
#include "moescope/model/checkpoint.h"
#include "moescope/model/tokenizer.h"
#include "server/service/state_internal.h"

namespace moescope {
namespace {

void Describe(const model::Checkpoint& checkpoint, ModelView& view) {
  const model::ModelConfig& config = checkpoint.config();
  view.family = config.family;
  view.model_type = config.model_type;
  view.num_layers = config.num_layers;
  view.moe_layers = config.MoeLayers();
  view.num_experts = config.num_experts;
  view.experts_per_token = config.router.experts_per_token;
  view.num_shared_experts = config.num_shared_experts;
  view.width = config.width;
  view.expert_width = config.expert_width;
  view.dense_width = config.dense_width;
  view.shared_width = config.shared_width;
  view.vocab_size = config.vocab_size;
  view.max_positions = config.max_positions;
  view.routing_rule = model::DescribeRouter(config);
  view.dtype = checkpoint.dtype();
  view.weight_bytes = checkpoint.weight_bytes();
  view.num_weight_files = static_cast<int>(checkpoint.weight_files().size());
  view.forward_status = checkpoint.forward_status();
  view.tokenizer_status = checkpoint.tokenizer_status();
  if (checkpoint.tokenizer() != nullptr) {
    view.tokenizer = checkpoint.tokenizer()->Describe();
  }
}

ModelView MakeView(Service::State& state, const ModelStatus& status) {
  ModelView view;
  view.name = status.name;
  view.state = std::string(ModelStateName(status.state));
  view.load_error = status.error;
  view.device = state.device;
  view.resident_bytes = status.weight_bytes;
  view.pins = status.pins;
  view.load_time = status.load_time;
  view.load_progress = status.progress;
  const auto checkpoint = state.registry->OpenCheckpoint(status.name);
  view.checkpoint_status = checkpoint.status();
  if (checkpoint.ok()) {
    Describe(**checkpoint, view);
    view.identity = state.identities->Identify(**checkpoint).id;
    view.hash_time = state.identities->FiledTime(**checkpoint);
    const absl::Status damage = state.identities->CheckUndamaged(**checkpoint);
    if (!damage.ok()) {
      view.load_error = damage;
    }
  }
  return view;
}

absl::StatusOr<std::shared_ptr<const model::Tokenizer>> TokenizerOf(
    const model::Checkpoint& checkpoint, absl::string_view field) {
  if (checkpoint.tokenizer() != nullptr) {
    return checkpoint.tokenizer();
  }
  const absl::Status& status = checkpoint.tokenizer_status();
  if (absl::IsNotFound(status) || absl::IsFailedPrecondition(status)) {
    return FieldError(absl::StatusCode::kFailedPrecondition, field,
                      absl::StrCat(status.message(), ": send token ids"),
                      "NO_TOKENIZER");
  }
  return status;
}

TokenizeView ShowTokens(const model::Tokenizer& tokenizer,
                        const std::vector<std::int32_t>& ids) {
  TokenizeView view;
  for (const std::int32_t id : ids) {
    view.push_back({id, tokenizer.DisplayToken(id), tokenizer.IsSpecial(id)});
  }
  return view;
}

absl::StatusOr<JobRecord> SubmitModelJob(Service::State& state,
                                         absl::string_view job,
                                         ModelJobRequest asked) {
  MOESCOPE_RETURN_IF_ERROR(RefuseWhileDraining(state));
  MOESCOPE_ASSIGN_OR_RETURN(const auto checkpoint,
                            state.registry->OpenCheckpoint(asked.model));
  const absl::Time now = state.clock.Now();
  SubmitRequest request;
  request.client = std::move(asked.client);
  request.request_id = std::move(asked.request_id);
  request.request_hash = Sha256Hex(absl::StrCat(
      job, "\n", asked.model, "\n", static_cast<int>(asked.priority)));
  request.analysis = std::string(job);
  request.analysis_version = 1;
  request.spec = std::move(asked.model);
  // It leaves no result: what is true now may not be tomorrow. So no two of
  // them share a key; the registry makes loads of one model one.
  request.key = Sha256Hex(NewUuidV7(now));
  request.lane =
      std::string(job == kVerifyModelJob ? kVerifyLane : kLoadLane);
  request.priority = asked.priority;
  request.use_result = false;
  request.share = false;
  // 1 GB/s is a slow disk.
  request.estimated_seconds =
      static_cast<double>(checkpoint->weight_bytes()) / 1e9;
  request.traceparent = std::move(asked.traceparent);
  request.server_version = state.options.version;
  MOESCOPE_ASSIGN_OR_RETURN(SubmitReply reply,
                            state.store->Submit(request, now));
  return std::move(reply.job);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> Service::ListModelNames() {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<ModelStatus> models,
                            state_->registry->List());
  std::vector<std::string> names;
  for (const ModelStatus& status : models) {
    names.push_back(status.name);
  }
  return names;
}

absl::StatusOr<std::vector<ModelView>> Service::DescribeModels(
    const std::vector<std::string>& names) {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<ModelStatus> models,
                            state_->registry->List());
  std::map<absl::string_view, const ModelStatus*> by_name;
  for (const ModelStatus& status : models) {
    by_name[status.name] = &status;
  }
  std::vector<ModelView> views;
  for (const std::string& name : names) {
    if (const auto found = by_name.find(name); found != by_name.end()) {
      views.push_back(MakeView(*state_, *found->second));
    }
  }
  return views;
}

absl::StatusOr<ModelView> Service::GetModel(absl::string_view name) {
  MOESCOPE_ASSIGN_OR_RETURN(const ModelStatus status,
                            state_->registry->Get(name));
  return MakeView(*state_, status);
}

absl::StatusOr<JobRecord> Service::LoadModel(ModelJobRequest request) {
  // What can't be opened or does not fit is refused before a job is made.
  MOESCOPE_RETURN_IF_ERROR(state_->registry->CheckRoom(request.model));
  return SubmitModelJob(*state_, kLoadModelJob, std::move(request));
}

absl::StatusOr<JobRecord> Service::VerifyModel(ModelJobRequest request) {
  return SubmitModelJob(*state_, kVerifyModelJob, std::move(request));
}

absl::Status Service::UnloadModel(absl::string_view name) {
  return state_->registry->Unload(name);
}

absl::StatusOr<EstimateView> Service::EstimateModel(absl::string_view name) {
  MOESCOPE_ASSIGN_OR_RETURN(const LoadEstimate estimate,
                            state_->registry->Estimate(name));
  EstimateView view;
  view.weight_bytes = estimate.memory.weight_bytes;
  view.workspace_bytes = estimate.memory.workspace_bytes;
  view.available_bytes = estimate.available_bytes;
  view.budget_bytes = estimate.budget_bytes;
  view.fits = estimate.fits;
  view.would_evict = estimate.would_evict;
  view.would_have_to_go = estimate.would_have_to_go;
  return view;
}

absl::StatusOr<TokenizeView> Service::Tokenize(absl::string_view model,
                                               absl::string_view text,
                                               bool special_tokens) {
  MOESCOPE_ASSIGN_OR_RETURN(const auto checkpoint,
                            state_->registry->OpenCheckpoint(model));
  MOESCOPE_ASSIGN_OR_RETURN(const auto tokenizer,
                            TokenizerOf(*checkpoint, "text"));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::int32_t> ids,
                            tokenizer->Encode(text, special_tokens));
  const auto count = static_cast<std::int64_t>(ids.size());
  if (count > state_->options.max_tokens) {
    ErrorDetails details;
    details.reason = "TOKEN_LIMIT";
    details.fields = {{"text", absl::StrCat("has ", count, " tokens")}};
    details.metadata["limit"] = absl::StrCat(state_->options.max_tokens);
    return MakeError(absl::StatusCode::kResourceExhausted,
                     absl::StrCat("text: has ", count, " tokens, at most ",
                                  state_->options.max_tokens, " are allowed"),
                     details);
  }
  return ShowTokens(*tokenizer, ids);
}

absl::StatusOr<TokenizeView> Service::Detokenize(
    absl::string_view model, const std::vector<std::int32_t>& ids) {
  MOESCOPE_ASSIGN_OR_RETURN(const auto checkpoint,
                            state_->registry->OpenCheckpoint(model));
  MOESCOPE_ASSIGN_OR_RETURN(const auto tokenizer,
                            TokenizerOf(*checkpoint, "tokens"));
  const std::int64_t vocab_size = checkpoint->config().vocab_size;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      return FieldError(absl::StatusCode::kOutOfRange,
                        absl::StrCat("tokens.ids[", i, "]"),
                        absl::StrCat(ids[i], " is outside [0, ",
                                     vocab_size - 1, "]"),
                        "TOKEN_OUT_OF_RANGE");
    }
  }
  return ShowTokens(*tokenizer, ids);
}

}  // namespace moescope
