#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <utility>

#include "server/model/forward_kernels_internal.h"
#include "server/model/torch_tensor_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

std::int64_t NumSlices(std::int64_t size, std::int64_t slice) {
  return (size + slice - 1) / slice;
}

// Neurons [begin, begin + size) of a block in fp32.
class WidenedSlice {
 public:
  WidenedSlice(const PassResources& pass, const BlockWeights& weights,
               std::int64_t begin, std::int64_t size)
      : pass_(pass),
        sources_({weights.gate.narrow(0, begin, size),
                  weights.up.narrow(0, begin, size),
                  weights.down.narrow(1, begin, size)}),
        gate_(pass.buffers.Take(size, weights.gate.size(1))),
        up_(pass.buffers.Take(size, weights.gate.size(1))),
        down_(pass.buffers.Take(weights.gate.size(1), size)) {}

  absl::Status Fill() const {
    const std::array<at::Tensor, 3> targets = {*gate_, *up_, *down_};
    return pass_.Parallel(3, [&](std::int64_t matrix) {
      const auto index = static_cast<std::size_t>(matrix);
      sources_[index].WidenTo(targets[index]);
      return absl::OkStatus();
    });
  }

  const at::Tensor& gate() const { return *gate_; }  // [size, D]
  const at::Tensor& up() const { return *up_; }      // [size, D]
  const at::Tensor& down() const { return *down_; }  // [D, size]

 private:
  const PassResources& pass_;
  const std::array<ResidentMatrix, 3> sources_;
  const BufferPool::Lease gate_;
  const BufferPool::Lease up_;
  const BufferPool::Lease down_;
};

// Adds to each row of `x` [size, 64] its element of `bias` from `begin` on.
void AddNeuronBias(const at::Tensor& x, const at::Tensor& bias,
                   std::int64_t begin) {
  if (bias.defined()) x.add_(bias.narrow(0, begin, x.size(0)).unsqueeze(1));
}

// gate becomes act(gate).
void Activate(const ModelConfig& config, at::Tensor& gate) {
  switch (config.activation) {
    case Activation::kSilu:
      at::silu_(gate);
      return;
    case Activation::kGelu: {
      constexpr double kInverseSqrt2 = 0.70710678118654752440;
      gate.mul_(at::erf(gate * kInverseSqrt2).add_(1.0).mul_(0.5));
      return;
    }
    case Activation::kClampedSwiglu:
      gate.clamp_max_(config.swiglu_limit);
      gate.mul_(at::sigmoid(gate * config.swiglu_alpha));
      return;
  }
}

// What act(gate) is multiplied with, made of up in place.
void PrepareUp(const ModelConfig& config, at::Tensor& up) {
  if (config.activation != Activation::kClampedSwiglu) return;
  up.clamp_(-config.swiglu_limit, config.swiglu_limit).add_(1.0);
}

}  // namespace

TileShape TileShapeFor(c10::Device device) {
  TileShape shape;
  if (!device.is_cpu()) {
    shape.tile_rows = 1024;
    shape.block_rows = 4096;
    shape.slice = 16384;
    shape.query_rows = 256;
  }
  return shape;
}

BufferPool::Lease::Lease(BufferPool& pool, at::Tensor memory, std::int64_t rows,
                         std::int64_t cols)
    : pool_(pool),
      memory_(std::move(memory)),
      tensor_(memory_.narrow(0, 0, rows * cols).view({rows, cols})) {}

BufferPool::Lease::~Lease() {
  const MutexLock lock(pool_.mutex_);
  pool_.free_.push_back(std::move(memory_));
}

BufferPool::Lease BufferPool::Take(std::int64_t rows, std::int64_t cols) {
  const std::int64_t size = rows * cols;
  at::Tensor memory;
  {
    const MutexLock lock(mutex_);
    // The smallest that fits, so that small requests leave large ones alone.
    auto best = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->numel() >= size &&
          (best == free_.end() || it->numel() < best->numel())) {
        best = it;
      }
    }
    if (best != free_.end()) {
      memory = std::move(*best);
      free_.erase(best);
    }
  }
  if (!memory.defined()) {
    memory = at::empty({size},
                       at::TensorOptions().dtype(at::kFloat).device(device_));
  }
  return Lease(*this, std::move(memory), rows, cols);
}

absl::Status PassResources::Parallel(
    std::int64_t n,
    const std::function<absl::Status(std::int64_t)>& body) const {
  return ParallelTorch(pool, context, device, n, body);
}

absl::Status Linear(const PassResources& pass, const at::Tensor& x,
                    const LinearWeights& weights, const at::Tensor& out) {
  const std::int64_t outputs = weights.weight.size(0);
  const std::int64_t inputs = weights.weight.size(1);
  const std::int64_t slice = std::min(pass.shape.slice, outputs);
  const std::int64_t tile = pass.shape.tile_rows;
  return pass.Parallel(
      NumSlices(outputs, slice), [&](std::int64_t s) -> absl::Status {
        const std::int64_t begin = s * slice;
        const std::int64_t size = std::min(slice, outputs - begin);
        const auto lease = pass.buffers.Take(size, inputs);
        weights.weight.narrow(0, begin, size).WidenTo(*lease);
        const at::Tensor transposed = lease->t();  // [inputs, size]
        const at::Tensor columns = out.narrow(1, begin, size);
        return pass.Parallel(x.size(0) / tile, [&](std::int64_t t) {
          at::Tensor target = columns.narrow(0, t * tile, tile);
          at::mm_out(target, x.narrow(0, t * tile, tile), transposed);
          if (weights.bias.defined()) {
            target.add_(weights.bias.narrow(0, begin, size));
          }
          return absl::OkStatus();
        });
      });
}

absl::Status FeedForward(const PassResources& pass, const ModelConfig& config,
                         const at::Tensor& x, const BlockWeights& weights,
                         const at::Tensor& activation, const at::Tensor& out) {
  const std::int64_t neurons = weights.gate.size(0);
  const std::int64_t width = weights.gate.size(1);
  const std::int64_t slice = std::min(pass.shape.slice, neurons);
  const std::int64_t tile = pass.shape.tile_rows;
  const std::int64_t tiles = x.size(0) / tile;
  // All products of a tile are transposed, weights on the left: BLAS then packs
  // the few tokens once instead of the many weights, and no product needs a
  // transposing copy before the last.
  const auto sums = pass.buffers.Take(tiles * width, tile);
  for (std::int64_t begin = 0; begin < neurons; begin += slice) {
    const std::int64_t size = std::min(slice, neurons - begin);
    const WidenedSlice widened(pass, weights, begin, size);
    MOESCOPE_RETURN_IF_ERROR(widened.Fill());
    MOESCOPE_RETURN_IF_ERROR(pass.Parallel(tiles, [&](std::int64_t t) {
      const at::Tensor tokens = x.narrow(0, t * tile, tile).t();  // [D, 64]
      const auto acted = pass.buffers.Take(size, tile);
      const auto gated = pass.buffers.Take(size, tile);
      at::Tensor gate = *acted;
      at::Tensor hidden = *gated;
      at::mm_out(gate, widened.gate(), tokens);
      AddNeuronBias(gate, weights.gate_bias, begin);
      Activate(config, gate);
      if (activation.defined()) {
        activation.narrow(0, t * tile, tile)
            .narrow(1, begin, size)
            .copy_(gate.t());
      }
      at::mm_out(hidden, widened.up(), tokens);
      AddNeuronBias(hidden, weights.up_bias, begin);
      PrepareUp(config, hidden);
      hidden.mul_(gate);
      at::Tensor sum = sums->narrow(0, t * width, width);  // [D, 64]
      if (begin == 0) {
        at::mm_out(sum, widened.down(), hidden);
      } else {
        sum.addmm_(widened.down(), hidden);
      }
      return absl::OkStatus();
    }));
  }
  return pass.Parallel(tiles, [&](std::int64_t t) {
    const at::Tensor target = out.narrow(0, t * tile, tile);
    target.copy_(sums->narrow(0, t * width, width).t());
    if (weights.down_bias.defined()) target.add_(weights.down_bias);
    return absl::OkStatus();
  });
}

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight,
                   double epsilon) {
  const at::Tensor mean_square = x.square().mean(-1, /*keepdim=*/true);
  const at::Tensor unit = x * at::rsqrt(mean_square + epsilon);
  return weight.defined() ? unit * weight : unit;
}

at::Tensor LayerNorm(const at::Tensor& x, const NormWeights& norm,
                     double epsilon) {
  const at::Tensor centred = x - x.mean(-1, /*keepdim=*/true);
  const at::Tensor scaled = RmsNorm(centred, norm.weight, epsilon);
  return norm.bias.defined() ? scaled + norm.bias : scaled;
}

}  // namespace moescope::model::internal
