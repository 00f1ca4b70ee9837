#include "server/model/forward_kernels_internal.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>

#include "moescope/base/status_macros.h"
#include "server/model/torch_tensor_internal.h"

namespace moescope::model::internal {
namespace {

std::int64_t NumSlices(std::int64_t size, std::int64_t slice) {
  return (size + slice - 1) / slice;
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

BufferPool::Lease::Lease(BufferPool& pool, at::Tensor memory,
                         std::int64_t rows, std::int64_t cols)
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
    memory = at::empty({size}, at::TensorOptions().dtype(at::kFloat).device(
                                   device_));
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
        lease->copy_(weights.weight.narrow(0, begin, size));  // widens
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

absl::Status FeedForward(const PassResources& pass, const at::Tensor& x,
                         const BlockWeights& weights,
                         const at::Tensor& activation, const at::Tensor& out) {
  const std::int64_t neurons = weights.gate.size(0);
  const std::int64_t width = weights.gate.size(1);
  const std::int64_t slice = std::min(pass.shape.slice, neurons);
  const std::int64_t tile = pass.shape.tile_rows;
  for (std::int64_t begin = 0; begin < neurons; begin += slice) {
    const std::int64_t size = std::min(slice, neurons - begin);
    const auto gate = pass.buffers.Take(size, width);
    const auto up = pass.buffers.Take(size, width);
    const auto down = pass.buffers.Take(width, size);
    const absl::Status widened = pass.Parallel(3, [&](std::int64_t matrix) {
      if (matrix == 0) {
        gate->copy_(weights.gate.narrow(0, begin, size));
      } else if (matrix == 1) {
        up->copy_(weights.up.narrow(0, begin, size));
      } else {
        down->copy_(weights.down.narrow(1, begin, size));
      }
      return absl::OkStatus();
    });
    MOESCOPE_RETURN_IF_ERROR(widened);
    const absl::Status computed =
        pass.Parallel(x.size(0) / tile, [&](std::int64_t t) {
          const at::Tensor rows = x.narrow(0, t * tile, tile);
          const auto hidden = pass.buffers.Take(tile, size);
          const auto product = pass.buffers.Take(tile, size);
          at::Tensor acted = *hidden;
          at::Tensor gated = *product;
          at::mm_out(acted, rows, gate->t());
          at::silu_(acted);
          if (activation.defined()) {
            activation.narrow(0, t * tile, tile)
                .narrow(1, begin, size)
                .copy_(acted);
          }
          at::mm_out(gated, rows, up->t());
          gated.mul_(acted);
          at::Tensor target = out.narrow(0, t * tile, tile);
          if (begin == 0) {
            at::mm_out(target, gated, down->t());
          } else {
            target.addmm_(gated, down->t());
          }
          return absl::OkStatus();
        });
    MOESCOPE_RETURN_IF_ERROR(computed);
  }
  return absl::OkStatus();
}

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight,
                   double epsilon) {
  const at::Tensor mean_square = x.square().mean(-1, /*keepdim=*/true);
  return x * at::rsqrt(mean_square + epsilon) * weight;
}

}  // namespace moescope::model::internal
