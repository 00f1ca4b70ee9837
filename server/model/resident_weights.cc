#include <ATen/ATen.h>

#include "server/model/layer_tensors_internal.h"
#include "server/model/resident_weights_internal.h"
#include "server/model/torch_tensor_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

std::int64_t Bytes(const TensorEntry* entry) {
  return entry == nullptr ? 0 : entry->size_bytes;
}

std::int64_t Bytes(const ExpertWeights& weights) {
  std::int64_t bytes = 0;
  for (const numerics::MatrixView& view : weights.projections) {
    bytes += view.size() * numerics::ElementSize(view.type);
  }
  return bytes;
}

std::int64_t Bytes(const LayerTensors& layer) {
  const AttentionTensors& a = layer.attention;
  std::int64_t bytes = Bytes(layer.input_norm) +
                       Bytes(layer.post_attention_norm) + Bytes(a.q_weight) +
                       Bytes(a.k_weight) + Bytes(a.v_weight) +
                       Bytes(a.o_weight) + Bytes(a.q_bias) + Bytes(a.k_bias) +
                       Bytes(a.v_bias) + Bytes(a.o_bias) + Bytes(layer.router);
  for (const ExpertWeights& expert : layer.experts) {
    bytes += Bytes(expert);
  }
  bytes += layer.shared ? Bytes(*layer.shared) : 0;
  bytes += layer.dense ? Bytes(*layer.dense) : 0;
  return bytes;
}

// Brings tensors of one checkpoint to one device.
class Loader {
 public:
  Loader(std::shared_ptr<const Checkpoint> checkpoint, c10::Device device)
      : checkpoint_(std::move(checkpoint)), device_(device) {}

  at::Tensor Matrix(const TensorEntry& entry) const {
    return MakeResident(entry, checkpoint_, device_);
  }

  at::Tensor Vector(const TensorEntry* entry) const {
    return entry == nullptr ? at::Tensor()
                            : Matrix(*entry).to(at::kFloat).contiguous();
  }

  LinearWeights Linear(const TensorEntry& weight,
                       const TensorEntry* bias) const {
    return {Matrix(weight), Vector(bias)};
  }

  BlockWeights Block(const ExpertWeights& weights) const {
    return {MakeResident(weights[Projection::kGate], checkpoint_, device_),
            MakeResident(weights[Projection::kUp], checkpoint_, device_),
            MakeResident(weights[Projection::kDown], checkpoint_, device_)};
  }

  ResidentLayer Layer(const LayerTensors& tensors) const {
    const AttentionTensors& a = tensors.attention;
    ResidentLayer layer;
    layer.input_norm = Vector(tensors.input_norm);
    layer.post_attention_norm = Vector(tensors.post_attention_norm);
    layer.q = Linear(*a.q_weight, a.q_bias);
    layer.k = Linear(*a.k_weight, a.k_bias);
    layer.v = Linear(*a.v_weight, a.v_bias);
    layer.o = Linear(*a.o_weight, a.o_bias);
    if (tensors.router != nullptr) {
      layer.router = Linear(*tensors.router, nullptr);
    }
    layer.experts.reserve(tensors.experts.size());
    for (const ExpertWeights& expert : tensors.experts) {
      layer.experts.push_back(Block(expert));
    }
    if (tensors.shared) {
      layer.shared = Block(*tensors.shared);
    }
    if (tensors.dense) {
      layer.dense = Block(*tensors.dense);
    }
    return layer;
  }

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  c10::Device device_;
};

}  // namespace

absl::StatusOr<ResidentWeights> LoadResidentWeights(
    const std::shared_ptr<const Checkpoint>& checkpoint, c10::Device device,
    const RunContext& context) {
  const ModelTensors& tensors = checkpoint->tensors_by_role();
  const Loader loader(checkpoint, device);
  const std::int64_t total = ResidentBytes(*checkpoint);
  ResidentWeights weights;
  std::int64_t done = 0;
  for (const LayerTensors& layer : tensors.layers) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    MOESCOPE_RETURN_IF_ERROR(RunTorch(device, [&] {
      weights.layers.push_back(loader.Layer(layer));
      return absl::OkStatus();
    }));
    done += Bytes(layer);
    context.ReportProgress({"loading weights", done, total, "bytes"});
  }
  MOESCOPE_RETURN_IF_ERROR(context.Check());
  MOESCOPE_RETURN_IF_ERROR(RunTorch(device, [&] {
    weights.embeddings = loader.Matrix(*tensors.embeddings);
    weights.final_norm = loader.Vector(tensors.final_norm);
    weights.lm_head = {tensors.lm_head == tensors.embeddings
                           ? weights.embeddings
                           : loader.Matrix(*tensors.lm_head),
                       at::Tensor()};
    return absl::OkStatus();
  }));
  context.ReportProgress({"loading weights", total, total, "bytes"});
  return weights;
}

std::int64_t ResidentBytes(const Checkpoint& checkpoint) {
  const ModelTensors& tensors = checkpoint.tensors_by_role();
  std::int64_t bytes = Bytes(tensors.embeddings) + Bytes(tensors.final_norm);
  if (tensors.lm_head != tensors.embeddings) {
    bytes += Bytes(tensors.lm_head);
  }
  for (const LayerTensors& layer : tensors.layers) {
    bytes += Bytes(layer);
  }
  return bytes;
}

}  // namespace moescope::model::internal
