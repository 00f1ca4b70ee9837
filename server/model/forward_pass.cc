#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/model/forward_experts_internal.h"
#include "server/model/forward_pass_internal.h"
#include "server/model/route_rows_internal.h"
#include "server/model/self_attention_internal.h"
#include "server/model/torch_tensor_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

// The model's own, but for what is asked for in its place.
RouterConfig AskedRouter(const RouterConfig& own,
                         const ForwardRequest& request) {
  RouterConfig router = own;
  router.masked_groups_are_zero =
      request.masked_groups_are_zero.value_or(own.masked_groups_are_zero);
  return router;
}

// One pass over a batch. Every [R, …] buffer has the T tokens in whole tiles;
// rows of padding start as 0, are computed like all others and stay finite.
class Pass {
 public:
  Pass(const PassModel& model, const TokenBatch& batch,
       const ForwardRequest& request, ForwardObserver& observer,
       const PassResources& pass)
      : model_(model),
        config_(model.config),
        router_(AskedRouter(model.config.router, request)),
        batch_(batch),
        request_(request),
        observer_(observer),
        pass_(pass),
        tokens_(static_cast<std::int64_t>(batch.ids.size())),
        rows_(RoundUp(tokens_, pass.shape.tile_rows)),
        last_layer_(request.logits ? config_.num_layers - 1
                                   : request.layers.back()),
        residual_(pass.buffers.Take(rows_, config_.width)),
        positions_(
            MakePositionTables(batch.lengths, rows_, config_, pass.device)) {}

  absl::Status Run() {
    MOESCOPE_RETURN_IF_ERROR(Embed());
    for (std::int64_t layer = 0; layer <= last_layer_; ++layer) {
      MOESCOPE_RETURN_IF_ERROR(AddAttention(layer));
      MOESCOPE_RETURN_IF_ERROR(AddFeedForward(layer));
    }
    return request_.logits ? ShowLogits() : absl::OkStatus();
  }

 private:
  bool Wanted(std::int64_t layer) const {
    return std::binary_search(request_.layers.begin(), request_.layers.end(),
                              layer);
  }

  // Whether anything follows that reads what the layer's block gives.
  bool NeedsOutput(std::int64_t layer) const {
    return layer < last_layer_ || request_.logits ||
           (request_.layer_outputs && Wanted(layer));
  }

  const ResidentLayer& Weights(std::int64_t layer) const {
    return model_.weights.layers[static_cast<std::size_t>(layer)];
  }

  at::Tensor Tile(const at::Tensor& x, std::int64_t t) const {
    return x.narrow(0, t * pass_.shape.tile_rows, pass_.shape.tile_rows);
  }

  template <typename Body>
  absl::Status ForTiles(std::int64_t rows, const Body& body) const {
    return pass_.Parallel(rows / pass_.shape.tile_rows, [&](std::int64_t t) {
      body(t);
      return absl::OkStatus();
    });
  }

  template <typename Body>
  absl::Status ForTiles(const Body& body) const {
    return ForTiles(rows_, body);
  }

  absl::Status Embed() {
    std::vector<std::int64_t> ids(batch_.ids.begin(), batch_.ids.end());
    ids.resize(static_cast<std::size_t>(rows_), 0);
    const at::Tensor index = CopyToDevice(ids, pass_.device);
    MOESCOPE_RETURN_IF_ERROR(ForTiles([&](std::int64_t t) {
      Tile(*residual_, t)
          .copy_(model_.weights.embeddings.index_select(0, Tile(index, t)));
      if (config_.embedding_scale != 1.0) {
        Tile(*residual_, t).mul_(config_.embedding_scale);
      }
    }));
    residual_->narrow(0, tokens_, rows_ - tokens_).zero_();
    return absl::OkStatus();
  }

  at::Tensor Normalised(const NormWeights& norm, const at::Tensor& x,
                        double epsilon) const {
    return config_.norm == NormKind::kLayer ? LayerNorm(x, norm, epsilon)
                                            : RmsNorm(x, norm.weight, epsilon);
  }

  absl::Status Normalise(const NormWeights& norm, double epsilon,
                         const at::Tensor& out) {
    return ForTiles([&](std::int64_t t) {
      Tile(out, t).copy_(Normalised(norm, Tile(*residual_, t), epsilon));
    });
  }

  // Adds `x`, through `norm` where the family has one there.
  absl::Status AddToResidual(const at::Tensor& x, const NormWeights& norm) {
    return ForTiles([&](std::int64_t t) {
      Tile(*residual_, t)
          .add_(norm.weight.defined()
                    ? Normalised(norm, Tile(x, t), config_.norm_epsilon)
                    : Tile(x, t));
    });
  }

  absl::Status AddAttention(std::int64_t layer) {
    const ResidentLayer& weights = Weights(layer);
    AttentionLayer attention = {
        config_, config_.layers[static_cast<std::size_t>(layer)],
        weights.attention, positions_, batch_.lengths};
    if (Wanted(layer)) {
      attention.on_routing = [&](const at::Tensor& input,
                                 const RoutedRows& routed) {
        return observer_.OnAttentionRouting(
            ShowRouting(layer, input, routed, tokens_));
      };
    }
    const auto input = pass_.buffers.Take(rows_, config_.width);
    const auto hidden = pass_.buffers.Take(rows_, config_.width);
    MOESCOPE_RETURN_IF_ERROR(
        Normalise(weights.input_norm, config_.norm_epsilon, *input));
    MOESCOPE_RETURN_IF_ERROR(SelfAttention(pass_, attention, *input, *hidden));
    return AddToResidual(*hidden, weights.attention_out_norm);
  }

  absl::Status AddFeedForward(std::int64_t layer) {
    const ResidentLayer& weights = Weights(layer);
    const auto input = pass_.buffers.Take(rows_, config_.width);
    MOESCOPE_RETURN_IF_ERROR(
        Normalise(weights.post_attention_norm, config_.norm_epsilon, *input));
    const bool is_moe = weights.router.weight.defined();
    return is_moe ? AddExperts(layer, *input) : AddDense(layer, *input);
  }

  absl::Status AddDense(std::int64_t layer, const at::Tensor& input) {
    if (!NeedsOutput(layer)) {
      return absl::OkStatus();
    }
    const auto block = pass_.buffers.Take(rows_, config_.width);
    MOESCOPE_RETURN_IF_ERROR(
        FeedForward(pass_, config_, input, *Weights(layer).dense, at::Tensor(),
                    *block));
    MOESCOPE_RETURN_IF_ERROR(
        AddToResidual(*block, Weights(layer).block_out_norm));
    LayerOutput output;
    output.layer = layer;
    output.block_output = Real(*block);
    output.mlp_input = Real(input);
    return Show(output);
  }

  absl::Status AddExperts(std::int64_t layer, const at::Tensor& input) {
    const ResidentLayer& weights = Weights(layer);
    const bool wanted = Wanted(layer);
    MOESCOPE_ASSIGN_OR_RETURN(
        const RoutedRows routing,
        RouteRows(pass_,
                  {config_, router_, *model_.rule, weights.router,
                   weights.router_correction},
                  input));
    if (wanted) {
      MOESCOPE_RETURN_IF_ERROR(
          observer_.OnRouting(ShowRouting(layer, input, routing, tokens_)));
    }
    const bool show_experts = wanted && request_.all_experts;
    if (!NeedsOutput(layer) && !show_experts) {
      return absl::OkStatus();
    }
    ExpertTask task;
    task.layer = layer;
    task.config = &config_;
    task.weights = &weights;
    task.num_tokens = tokens_;
    task.moe_input = input;
    const at::Tensor host_ids = Real(routing.ids).cpu().contiguous();
    const auto* ids = host_ids.data_ptr<std::int64_t>();
    task.ids.assign(ids, ids + host_ids.numel());
    task.topk_weights = routing.weights;
    task.observer = show_experts ? &observer_ : nullptr;
    if (!NeedsOutput(layer)) {
      return RunExperts(pass_, task, at::Tensor());
    }
    const auto routed = pass_.buffers.Take(rows_, config_.width);
    MOESCOPE_RETURN_IF_ERROR(RunExperts(pass_, task, *routed));
    return AddExpertOutput(layer, input, *routed);
  }

  absl::Status AddExpertOutput(std::int64_t layer, const at::Tensor& input,
                               const at::Tensor& routed) {
    LayerOutput output;
    output.layer = layer;
    output.routed_output = Real(routed);
    const ResidentLayer& weights = Weights(layer);
    const bool has_shared = weights.shared.has_value();
    const bool adds = has_shared || weights.block_bias.defined();
    const auto shared = pass_.buffers.Take(has_shared ? rows_ : 0,
                                           config_.width);
    const auto sum = pass_.buffers.Take(adds ? rows_ : 0, config_.width);
    if (has_shared) {
      MOESCOPE_RETURN_IF_ERROR(RunShared(weights, input, *shared));
      output.shared_output = Real(*shared);
    }
    if (adds) {
      MOESCOPE_RETURN_IF_ERROR(ForTiles([&](std::int64_t t) {
        const at::Tensor tile = Tile(*sum, t);
        tile.copy_(Tile(routed, t));
        if (has_shared) tile.add_(Tile(*shared, t));
        if (weights.block_bias.defined()) tile.add_(weights.block_bias);
      }));
    }
    const at::Tensor block = adds ? *sum : routed;
    MOESCOPE_RETURN_IF_ERROR(AddToResidual(block, weights.block_out_norm));
    output.block_output = Real(block);
    return Show(output);
  }

  // The shared block's output, times σ(shared_gate · x) where there is such a
  // gate. That product is a sum per row: a library product with one output
  // need not treat all rows alike.
  absl::Status RunShared(const ResidentLayer& weights, const at::Tensor& input,
                         const at::Tensor& out) {
    MOESCOPE_RETURN_IF_ERROR(FeedForward(pass_, config_, input,
                                         *weights.shared, at::Tensor(), out));
    if (!weights.shared_gate.defined()) return absl::OkStatus();
    return ForTiles([&](std::int64_t t) {
      const at::Tensor open = at::sigmoid(
          (Tile(input, t) * weights.shared_gate).sum(-1, /*keepdim=*/true));
      Tile(out, t).mul_(open);
    });
  }

  absl::Status Show(LayerOutput& output) {
    if (!request_.layer_outputs || !Wanted(output.layer)) {
      return absl::OkStatus();
    }
    output.residual = Real(*residual_);
    return observer_.OnLayerOutput(output);
  }

  absl::Status ShowLogits() {
    const auto hidden = pass_.buffers.Take(rows_, config_.width);
    MOESCOPE_RETURN_IF_ERROR(Normalise(
        model_.weights.final_norm,
        config_.final_norm_epsilon.value_or(config_.norm_epsilon), *hidden));
    for (std::int64_t begin = 0; begin < tokens_;
         begin += pass_.shape.block_rows) {
      const std::int64_t count =
          std::min(pass_.shape.block_rows, tokens_ - begin);
      const std::int64_t rows = RoundUp(count, pass_.shape.tile_rows);
      const auto logits = pass_.buffers.Take(rows, config_.vocab_size);
      MOESCOPE_RETURN_IF_ERROR(Linear(pass_, hidden->narrow(0, begin, rows),
                                      model_.weights.lm_head, *logits));
      if (config_.logit_scale != 1.0) {
        MOESCOPE_RETURN_IF_ERROR(ForTiles(rows, [&](std::int64_t t) {
          Tile(*logits, t).mul_(config_.logit_scale);
        }));
      }
      MOESCOPE_RETURN_IF_ERROR(
          observer_.OnLogitRows({begin, logits->narrow(0, 0, count)}));
    }
    return absl::OkStatus();
  }

  // Without the rows of padding.
  at::Tensor Real(const at::Tensor& x) const {
    return x.narrow(0, 0, tokens_);
  }

  const PassModel& model_;
  const ModelConfig& config_;
  const RouterConfig router_;
  const TokenBatch& batch_;
  const ForwardRequest& request_;
  ForwardObserver& observer_;
  const PassResources& pass_;
  const std::int64_t tokens_;  // T
  const std::int64_t rows_;    // R
  const std::int64_t last_layer_;
  const BufferPool::Lease residual_;  // [R, D]
  const PositionTables positions_;
};

absl::Status ValidateLengths(const ModelConfig& config,
                             const TokenBatch& batch) {
  std::int64_t sum = 0;
  for (const std::int64_t length : batch.lengths) {
    if (length < 1) {
      return InvalidField("tokens", absl::StrCat("a sequence has length ",
                                                 length, ", at least 1"));
    }
    if (length > config.max_positions) {
      return FieldError(absl::StatusCode::kOutOfRange, "tokens",
                        absl::StrCat("a sequence has ", length,
                                     " tokens, the model takes at most ",
                                     config.max_positions));
    }
    sum += length;
  }
  if (sum != static_cast<std::int64_t>(batch.ids.size())) {
    return InvalidField("tokens",
                        absl::StrCat("the lengths sum up to ", sum, ", but ",
                                     batch.ids.size(), " ids are given"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidatePass(const ModelConfig& config, const TokenBatch& batch,
                          const ForwardRequest& request) {
  if (batch.ids.empty()) {
    return InvalidField("tokens", "is empty, at least one token is needed");
  }
  MOESCOPE_RETURN_IF_ERROR(ValidateLengths(config, batch));
  for (std::size_t i = 0; i < batch.ids.size(); ++i) {
    if (batch.ids[i] < 0 || batch.ids[i] >= config.vocab_size) {
      return FieldError(
          absl::StatusCode::kOutOfRange, "tokens",
          absl::StrCat("id ", batch.ids[i], " at position ", i,
                       " is outside [0, ", config.vocab_size - 1, "]"));
    }
  }
  std::int64_t previous = -1;
  for (const std::int64_t layer : request.layers) {
    if (layer < 0 || layer >= config.num_layers) {
      return FieldError(
          absl::StatusCode::kOutOfRange, "layers",
          absl::StrCat(layer, " is outside [0, ", config.num_layers - 1, "]"));
    }
    if (layer <= previous) {
      return InvalidField(
          "layers", absl::StrCat(layer, " follows ", previous, ", must rise"));
    }
    previous = layer;
  }
  return absl::OkStatus();
}

absl::Status RunPass(const PassModel& model, const TokenBatch& batch,
                     const ForwardRequest& request, ForwardObserver& observer,
                     const PassResources& pass) {
  if (request.layers.empty() && !request.logits) {
    return absl::OkStatus();
  }
  return Pass(model, batch, request, observer, pass).Run();
}

}  // namespace moescope::model::internal
