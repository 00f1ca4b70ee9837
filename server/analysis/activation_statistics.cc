#include "moescope/analysis/activation_statistics.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/analysis/activation_state_internal.h"
#include "server/analysis/chunk_emitter_internal.h"
#include "server/analysis/token_blocks_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/model/forward.h"

namespace moescope::analysis {
namespace {

using internal::ActivationState;
using internal::LayerName;
using internal::TokenBlock;
using Spec = spec::ActivationStatisticsSpec;

// The spec's {low, high, number} as edges, equally spaced and with `high`
// itself at the end.
std::vector<double> HistogramEdges(const std::vector<double>& histogram) {
  std::vector<double> edges;
  if (histogram.empty()) {
    return edges;
  }
  const auto count = static_cast<std::int64_t>(histogram[2]);
  const double step =
      (histogram[1] - histogram[0]) / static_cast<double>(count - 1);
  for (std::int64_t i = 0; i < count - 1; ++i) {
    edges.push_back(histogram[0] + static_cast<double>(i) * step);
  }
  edges.push_back(histogram[1]);
  return edges;
}

// Takes the activations of one block of tokens into the layers' accumulators.
class AccumulatingObserver final : public model::ForwardObserver {
 public:
  AccumulatingObserver(const Spec& spec, ActivationState& state,
                       const RunContext& context)
      : spec_(spec), state_(state), context_(context) {}

  // To be called before each pass. `progress.done` counts tokens of whole
  // blocks.
  void Start(const Progress& progress, const TokenBlock& block) {
    progress_ = progress;
    first_token_ = block.first_token;
    num_tokens_ = block.num_tokens();
    index_ = 0;
  }

  absl::Status OnRouting(const model::LayerRouting& routing) override {
    const auto found =
        std::find(spec_.layers.begin(), spec_.layers.end(), routing.layer);
    if (found == spec_.layers.end()) {
      return absl::InternalError("a layer was shown that nobody asked for");
    }
    index_ = found - spec_.layers.begin();
    Progress now = progress_;
    now.done +=
        num_tokens_ * index_ / static_cast<std::int64_t>(spec_.layers.size());
    context_.ReportProgress(now);
    const at::Tensor ids = routing.topk_ids.to(at::kCPU).contiguous();
    const std::int64_t* const id = ids.data_ptr<std::int64_t>();  // [T, K]
    const std::int64_t per_token = ids.size(1);
    routed_.assign(
        static_cast<std::size_t>(routing.scores.size(1) * num_tokens_), 0);
    for (std::int64_t t = 0; t < num_tokens_; ++t) {
      for (std::int64_t k = 0; k < per_token; ++k) {
        routed_[static_cast<std::size_t>(id[t * per_token + k] * num_tokens_ +
                                         t)] = 1;
      }
    }
    return absl::OkStatus();
  }

  // Called for different experts at the same time: only reads members, and the
  // accumulator allows it.
  absl::Status OnExpertRows(const model::ExpertRows& rows) override {
    const at::Tensor values = rows.activation.to(at::kCPU).contiguous();
    numerics::ActivationBlock block;
    block.expert = rows.expert;
    block.first_token = first_token_ + rows.row_begin;
    block.values = values.data_ptr<float>();
    block.rows = values.size(0);
    block.row_stride = values.size(1);
    block.routed = absl::MakeConstSpan(routed_).subspan(
        static_cast<std::size_t>(rows.expert * num_tokens_ + rows.row_begin),
        static_cast<std::size_t>(block.rows));
    return state_.layers[static_cast<std::size_t>(index_)]->Add(block);
  }

 private:
  const Spec& spec_;
  ActivationState& state_;
  const RunContext& context_;
  Progress progress_;
  std::int64_t first_token_ = 0;
  std::int64_t num_tokens_ = 0;
  std::ptrdiff_t index_ = 0;          // Of the layer at hand.
  std::vector<std::uint8_t> routed_;  // [E, T]
};

// Shapes of one layer's answer.
struct Sizes {
  std::int64_t experts = 0;
  std::int64_t neurons = 0;
  std::int64_t thresholds = 0;
};

template <typename T>
spec::Array ArrayOf(std::int64_t layer, const char* name,
                    std::vector<std::int64_t> shape,
                    const std::vector<T>& values) {
  return spec::MakeArray(LayerName(layer, name), std::move(shape),
                         absl::MakeConstSpan(values));
}

void AddMoments(const std::string& group, const Sizes& sizes,
                const numerics::NeuronMoments& moments, spec::Chunk& chunk) {
  const auto add = [&](const char* name, const std::vector<double>& values) {
    chunk.arrays.push_back(internal::MakeFloat32(
        group + name, {sizes.experts, sizes.neurons}, values));
  };
  add("frequency", moments.frequency);
  add("mean", moments.mean);
  add("mean_abs", moments.mean_abs);
  add("max", moments.max);
  add("second_moment", moments.second_moment);
}

void AddNeurons(std::int64_t layer, const Sizes& sizes,
                const numerics::ActivationStatistics& statistics,
                spec::Chunk& chunk) {
  AddMoments(LayerName(layer, "neuron."), sizes, statistics.neuron, chunk);
  AddMoments(LayerName(layer, "neuron_routed."), sizes,
             statistics.neuron_routed, chunk);
  if (statistics.num_top > 0) {
    const std::vector<std::int64_t> shape = {sizes.experts, sizes.neurons,
                                             statistics.num_top};
    chunk.arrays.push_back(
        ArrayOf(layer, "neuron.top_tokens", shape, statistics.top_tokens));
    chunk.arrays.push_back(
        ArrayOf(layer, "neuron.top_values", shape, statistics.top_values));
  }
}

spec::Chunk LayerChunk(const Spec& spec,
                       const numerics::ActivationOptions& options,
                       std::int64_t layer,
                       const numerics::ActivationStatistics& statistics) {
  const Sizes sizes = {options.num_experts, options.num_neurons,
                       static_cast<std::int64_t>(spec.thresholds.size())};
  const std::int64_t e = sizes.experts;
  const std::int64_t h = sizes.thresholds;
  spec::Chunk chunk;
  const auto add = [&](spec::Array array) {
    chunk.arrays.push_back(std::move(array));
  };
  add(ArrayOf(layer, "thresholds", {h}, spec.thresholds));
  add(ArrayOf(layer, "fraction", {h}, statistics.fraction));
  add(ArrayOf(layer, "fraction_routed", {h}, statistics.fraction_routed));
  add(ArrayOf(layer, "expert_fraction", {e, h}, statistics.expert_fraction));
  add(ArrayOf(layer, "expert_fraction_routed", {e, h},
              statistics.expert_fraction_routed));
  add(ArrayOf(layer, "routed_tokens", {e}, statistics.routed_tokens));
  add(spec::MakeCount(LayerName(layer, "tokens"),
                      static_cast<std::int64_t>(spec.input.ids.size())));
  add(spec::MakeCount(LayerName(layer, "near_threshold"),
                      statistics.near_threshold));
  add(ArrayOf(layer, "nonfinite", {e}, statistics.nonfinite));
  if (!options.histogram_edges.empty()) {
    const auto edges =
        static_cast<std::int64_t>(options.histogram_edges.size());
    add(ArrayOf(layer, "histogram_edges", {edges}, options.histogram_edges));
    add(ArrayOf(layer, "histogram", {e, edges + 1}, statistics.histogram));
  }
  if (std::find(spec.neuron_layers.begin(), spec.neuron_layers.end(), layer) !=
      spec.neuron_layers.end()) {
    AddNeurons(layer, sizes, statistics, chunk);
  }
  return chunk;
}

// Emits a chunk per layer, then the means over the layers.
absl::Status EmitAll(const Spec& spec,
                     const numerics::ActivationOptions& options,
                     const ActivationState& state, const RunContext& context,
                     internal::ChunkEmitter& emitter) {
  std::vector<double> fraction(spec.thresholds.size());
  std::vector<double> fraction_routed(spec.thresholds.size());
  const auto num_layers = static_cast<double>(spec.layers.size());
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const numerics::ActivationStatistics statistics = state.layers[i]->Finish();
    for (std::size_t h = 0; h < fraction.size(); ++h) {
      fraction[h] += statistics.fraction[h] / num_layers;
      fraction_routed[h] += statistics.fraction_routed[h] / num_layers;
    }
    if (emitter.wanted()) {
      MOESCOPE_RETURN_IF_ERROR(
          emitter.Emit(LayerChunk(spec, options, spec.layers[i], statistics)));
    } else {
      emitter.Skip();
    }
  }
  const auto h = static_cast<std::int64_t>(fraction.size());
  spec::Chunk total;
  total.arrays.push_back(
      spec::MakeArray("total.fraction", {h}, absl::MakeConstSpan(fraction)));
  total.arrays.push_back(spec::MakeArray("total.fraction_routed", {h},
                                         absl::MakeConstSpan(fraction_routed)));
  return emitter.Emit(std::move(total));
}

numerics::ActivationOptions OptionsOf(const Spec& spec,
                                      const model::ModelConfig& config) {
  numerics::ActivationOptions options;
  options.num_experts = config.num_experts;
  options.num_neurons = config.expert_width;
  options.thresholds = spec.thresholds;
  options.histogram_edges = HistogramEdges(spec.histogram);
  options.top_tokens = spec.top_tokens;
  return options;
}

absl::Status ReadBlocks(const Spec& spec, const model::Model& model,
                        ActivationState& state, ThreadPool& pool,
                        const RunContext& context, ChunkSink& sink) {
  const std::vector<TokenBlock> blocks =
      internal::CutIntoBlocks(spec.input, spec.block_tokens);
  if (state.blocks_done < 0 ||
      state.blocks_done > static_cast<std::int64_t>(blocks.size())) {
    return absl::DataLossError(
        "saved state of activation_statistics: more blocks than there are");
  }
  model::ForwardRequest request;
  request.layers = spec.layers;
  request.all_experts = true;
  AccumulatingObserver observer(spec, state, context);
  Progress progress = {"forward pass", 0,
                       static_cast<std::int64_t>(spec.input.ids.size()),
                       "tokens"};
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const TokenBlock& block = blocks[i];
    if (static_cast<std::int64_t>(i) != state.blocks_done) {
      // Not reported: it tells nothing of this run's pace.
      progress.done += block.num_tokens();
      continue;
    }
    observer.Start(progress, block);
    MOESCOPE_RETURN_IF_ERROR(model.Forward({block.ids, block.lengths}, request,
                                           observer, pool, context));
    ++state.blocks_done;
    MOESCOPE_RETURN_IF_ERROR(
        sink.SaveState(internal::EncodeActivationState(spec, state)));
    progress.done += block.num_tokens();
    context.ReportProgress(progress);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunActivationStatistics(
    const Spec& spec, const ModelInputs& inputs, const ResumePoint& resume,
    ThreadPool& pool, const RunContext& context, ChunkSink& sink) {
  if (inputs.model == nullptr) {
    return absl::InternalError("activation_statistics without a model");
  }
  const numerics::ActivationOptions options =
      OptionsOf(spec, inputs.model->checkpoint().config());
  MOESCOPE_ASSIGN_OR_RETURN(
      ActivationState state,
      resume.state.empty()
          ? internal::NewActivationState(spec, options)
          : internal::DecodeActivationState(spec, options, resume.state));
  MOESCOPE_RETURN_IF_ERROR(
      ReadBlocks(spec, *inputs.model, state, pool, context, sink));
  internal::ChunkEmitter emitter(resume, sink);
  return EmitAll(spec, options, state, context, emitter);
}

}  // namespace moescope::analysis
