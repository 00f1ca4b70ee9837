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

std::int64_t Bytes(const numerics::MatrixView& view) {
  return numerics::StoredBytes(view);
}

std::int64_t Bytes(const LinearTensors& linear) {
  return Bytes(linear.weight) + Bytes(linear.bias);
}

std::int64_t Bytes(const NormTensors& norm) {
  return Bytes(norm.weight) + Bytes(norm.bias);
}

std::int64_t Bytes(const ExpertWeights& weights) {
  std::int64_t bytes = 0;
  for (const numerics::MatrixView& view : weights.projections) {
    bytes += Bytes(view);
  }
  return bytes;
}

std::int64_t Bytes(const std::vector<LinearTensors>& maps) {
  std::int64_t bytes = 0;
  for (const LinearTensors& map : maps) bytes += Bytes(map);
  return bytes;
}

std::int64_t Bytes(const AttentionTensors& a) {
  return Bytes(a.router) + Bytes(a.inputs) + Bytes(a.outputs) +
         Bytes(a.mixture_bias) + Bytes(a.q) + Bytes(a.k) + Bytes(a.v) +
         Bytes(a.o) + Bytes(a.q_norm) + Bytes(a.k_norm) + Bytes(a.sinks) +
         Bytes(a.q_a) + Bytes(a.q_a_norm) + Bytes(a.q_b) + Bytes(a.kv_a) +
         Bytes(a.kv_a_norm) + Bytes(a.kv_b);
}

std::int64_t Bytes(const LayerTensors& layer) {
  std::int64_t bytes = Bytes(layer.input_norm) +
                       Bytes(layer.post_attention_norm) +
                       Bytes(layer.attention_out_norm) +
                       Bytes(layer.block_out_norm) + Bytes(layer.attention) +
                       Bytes(layer.router) + Bytes(layer.shared_gate) +
                       Bytes(layer.router_correction) +
                       Bytes(layer.block_bias);
  for (const ExpertWeights& expert : layer.experts) {
    bytes += Bytes(expert);
  }
  for (const ExpertBiases& biases : layer.expert_biases) {
    bytes += Bytes(biases.gate) + Bytes(biases.up) + Bytes(biases.down);
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

  // Of all that was made.
  std::int64_t bytes() const { return bytes_; }

  at::Tensor Matrix(const TensorEntry& entry) {
    return Counted(MakeResident(entry, checkpoint_, device_));
  }

  ResidentMatrix Weight(const numerics::MatrixView& view) {
    ResidentMatrix weight(view, checkpoint_, device_);
    bytes_ += weight.bytes();
    return weight;
  }

  at::Tensor Vector(const TensorEntry* entry) {
    return entry == nullptr ? at::Tensor()
                            : Counted(MakeResident(*entry, checkpoint_, device_)
                                          .to(at::kFloat)
                                          .contiguous());
  }

  NormWeights Norm(const NormTensors& norm) {
    return {Vector(norm.weight), Vector(norm.bias)};
  }

  LinearWeights Linear(const LinearTensors& linear) {
    return {linear.present() ? Weight(linear.weight) : ResidentMatrix(),
            Vector(linear.bias)};
  }

  BlockWeights Block(const ExpertWeights& weights) {
    return {Weight(weights[Projection::kGate]),
            Weight(weights[Projection::kUp]),
            Weight(weights[Projection::kDown]),
            at::Tensor(), at::Tensor(), at::Tensor()};
  }

  // One row as a vector; `view` may be strided.
  at::Tensor Row(const numerics::MatrixView& view) {
    return Counted(MakeResident(view, checkpoint_, device_)
                       .to(at::kFloat)
                       .contiguous()
                       .view({view.cols}));
  }

  BlockWeights Block(const ExpertWeights& weights,
                     const ExpertBiases& biases) {
    BlockWeights block = Block(weights);
    block.gate_bias = Row(biases.gate);
    block.up_bias = Row(biases.up);
    block.down_bias = Row(biases.down);
    return block;
  }

  AttentionWeights Attention(const AttentionTensors& a) {
    AttentionWeights attention;
    attention.q = Linear(a.q);
    attention.k = Linear(a.k);
    attention.v = Linear(a.v);
    attention.o = Linear(a.o);
    attention.q_norm = Norm(a.q_norm);
    attention.k_norm = Norm(a.k_norm);
    attention.sinks = Vector(a.sinks);
    attention.q_a = Linear(a.q_a);
    attention.q_a_norm = Norm(a.q_a_norm);
    attention.q_b = Linear(a.q_b);
    attention.kv_a = Linear(a.kv_a);
    attention.kv_a_norm = Norm(a.kv_a_norm);
    attention.kv_b = Linear(a.kv_b);
    attention.router = Linear(a.router);
    for (const LinearTensors& map : a.inputs) {
      attention.inputs.push_back(Linear(map));
    }
    for (const LinearTensors& map : a.outputs) {
      attention.outputs.push_back(Linear(map));
    }
    attention.mixture_bias = Vector(a.mixture_bias);
    return attention;
  }

  ResidentLayer Layer(const LayerTensors& tensors) {
    ResidentLayer layer;
    layer.input_norm = Norm(tensors.input_norm);
    layer.post_attention_norm = Norm(tensors.post_attention_norm);
    layer.attention_out_norm = Norm(tensors.attention_out_norm);
    layer.block_out_norm = Norm(tensors.block_out_norm);
    layer.attention = Attention(tensors.attention);
    layer.router = Linear(tensors.router);
    layer.router_correction = Vector(tensors.router_correction);
    layer.experts.reserve(tensors.experts.size());
    for (std::size_t e = 0; e < tensors.experts.size(); ++e) {
      layer.experts.push_back(
          tensors.expert_biases.empty()
              ? Block(tensors.experts[e])
              : Block(tensors.experts[e], tensors.expert_biases[e]));
    }
    if (tensors.shared) {
      layer.shared = Block(*tensors.shared);
    }
    if (tensors.shared_gate.present()) {
      layer.shared_gate = Row(tensors.shared_gate.weight);
    }
    layer.block_bias = Vector(tensors.block_bias);
    if (tensors.dense) {
      layer.dense = Block(*tensors.dense);
    }
    return layer;
  }

 private:
  at::Tensor Counted(at::Tensor tensor) {
    bytes_ += static_cast<std::int64_t>(tensor.nbytes());
    return tensor;
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  c10::Device device_;
  std::int64_t bytes_ = 0;
};

}  // namespace

absl::StatusOr<ResidentWeights> LoadResidentWeights(
    const std::shared_ptr<const Checkpoint>& checkpoint, c10::Device device,
    const RunContext& context) {
  const ModelTensors& tensors = checkpoint->tensors_by_role();
  Loader loader(checkpoint, device);
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
    weights.final_norm = loader.Norm(tensors.final_norm);
    weights.lm_head = tensors.lm_head_is_embeddings
                          ? LinearWeights{ResidentMatrix(weights.embeddings),
                                          loader.Vector(tensors.lm_head.bias)}
                          : loader.Linear(tensors.lm_head);
    return absl::OkStatus();
  }));
  weights.bytes = loader.bytes();
  context.ReportProgress({"loading weights", total, total, "bytes"});
  return weights;
}

std::int64_t ResidentBytes(const Checkpoint& checkpoint) {
  const ModelTensors& tensors = checkpoint.tensors_by_role();
  std::int64_t bytes = Bytes(tensors.embeddings) + Bytes(tensors.final_norm);
  if (!tensors.lm_head_is_embeddings) {
    bytes += Bytes(tensors.lm_head);
  }
  for (const LayerTensors& layer : tensors.layers) {
    bytes += Bytes(layer);
  }
  return bytes;
}

}  // namespace moescope::model::internal
