// The calls of Service about models.
#include <string>
#include <utility>

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
  view.routing_rule =
      config.num_experts > 0 ? model::DescribeRouter(config) : "dense";
  view.dtype = checkpoint.dtype();
  view.weight_bytes = checkpoint.weight_bytes();
  view.tokenizer_status = checkpoint.tokenizer_status();
  if (checkpoint.tokenizer() != nullptr) {
    view.tokenizer = checkpoint.tokenizer()->Describe();
  }
  view.identity = checkpoint.identity().id;
}

ModelView MakeView(Service::State& state, const ModelStatus& status) {
  ModelView view;
  view.name = status.name;
  view.state = std::string(ModelStateName(status.state));
  view.load_error = status.error;
  view.device = state.device;
  view.resident_bytes = status.reserved_bytes;
  view.pins = status.pins;
  view.load_time = status.load_time;
  view.load_progress = status.progress;
  const auto checkpoint = state.registry->OpenCheckpoint(status.name);
  view.checkpoint_status = checkpoint.status();
  if (checkpoint.ok()) {
    Describe(**checkpoint, view);
  }
  return view;
}

absl::StatusOr<std::shared_ptr<const model::Tokenizer>> TokenizerOf(
    const model::Checkpoint& checkpoint) {
  if (checkpoint.tokenizer() != nullptr) {
    return checkpoint.tokenizer();
  }
  const absl::Status& status = checkpoint.tokenizer_status();
  if (absl::IsNotFound(status) || absl::IsFailedPrecondition(status)) {
    return FieldError(absl::StatusCode::kFailedPrecondition, "text",
                      absl::StrCat(status.message(), ": send token ids"),
                      "NO_TOKENIZER");
  }
  return status;
}

}  // namespace

absl::StatusOr<std::vector<ModelView>> Service::ListModels() {
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<ModelStatus> models,
                            state_->registry->List());
  std::vector<ModelView> views;
  for (const ModelStatus& status : models) {
    views.push_back(MakeView(*state_, status));
  }
  return views;
}

absl::StatusOr<ModelView> Service::GetModel(absl::string_view name) {
  MOESCOPE_ASSIGN_OR_RETURN(const ModelStatus status,
                            state_->registry->Get(name));
  return MakeView(*state_, status);
}

absl::StatusOr<JobRecord> Service::LoadModel(absl::string_view name,
                                             absl::string_view client,
                                             absl::string_view request_id) {
  // What can't be opened or can never fit is refused before a job is made.
  MOESCOPE_ASSIGN_OR_RETURN(const auto checkpoint,
                            state_->registry->OpenCheckpoint(name));
  const absl::Time now = state_->clock.Now();
  SubmitRequest request;
  request.client = std::string(client);
  request.request_id = std::string(request_id);
  request.request_hash = Sha256Hex(absl::StrCat(kLoadModelJob, "\n", name));
  request.analysis = std::string(kLoadModelJob);
  request.analysis_version = 1;
  request.spec = std::string(name);
  // A load leaves no result: what is loaded now may be gone tomorrow. So no
  // two loads share a key; the registry makes them one.
  request.key = Sha256Hex(NewUuidV7(now));
  request.lane = std::string(kLoadLane);
  request.priority = Priority::kInteractive;
  request.use_result = false;
  request.share = false;
  // Page-cached files map at once; 1 GB/s is a slow disk.
  request.estimated_seconds =
      static_cast<double>(checkpoint->weight_bytes()) / 1e9;
  request.server_version = state_->options.version;
  MOESCOPE_ASSIGN_OR_RETURN(SubmitReply reply,
                            state_->store->Submit(request, now));
  return std::move(reply.job);
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
                                               absl::string_view text) {
  MOESCOPE_ASSIGN_OR_RETURN(const auto checkpoint,
                            state_->registry->OpenCheckpoint(model));
  MOESCOPE_ASSIGN_OR_RETURN(const auto tokenizer, TokenizerOf(*checkpoint));
  TokenizeView view;
  MOESCOPE_ASSIGN_OR_RETURN(view.ids, tokenizer->Encode(text));
  for (const std::int32_t id : view.ids) {
    view.pieces.push_back(tokenizer->DisplayToken(id));
  }
  return view;
}

absl::StatusOr<TokenizeView> Service::Detokenize(
    absl::string_view model, const std::vector<std::int32_t>& ids) {
  MOESCOPE_ASSIGN_OR_RETURN(const auto checkpoint,
                            state_->registry->OpenCheckpoint(model));
  MOESCOPE_ASSIGN_OR_RETURN(const auto tokenizer, TokenizerOf(*checkpoint));
  TokenizeView view;
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= checkpoint->config().vocab_size) {
      return FieldError(absl::StatusCode::kOutOfRange, "ids",
                        absl::StrCat("token id ", id, " is outside [0, ",
                                     checkpoint->config().vocab_size - 1, "]"),
                        "TOKEN_OUT_OF_RANGE");
    }
    view.ids.push_back(id);
    view.pieces.push_back(tokenizer->DisplayToken(id));
  }
  return view;
}

}  // namespace moescope
