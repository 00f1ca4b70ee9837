#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "server/model/resident_weights_internal.h"

#include "moescope/base/mutex.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/config.h"

namespace moescope::model::internal {

/// The fixed shapes of all library products. Results depend on them, hence they
/// depend on the kind of device alone and NumericsClass names them.
struct TileShape {
  /// Rows (tokens) of one product; buffers are padded to whole tiles.
  std::int64_t tile_rows = 64;
  /// Rows of one memory block of experts: whole tiles.
  std::int64_t block_rows = 1024;
  /// Outputs (of an expert: neurons) whose weights are widened together.
  std::int64_t slice = 512;
  /// Queries of one attention product.
  std::int64_t query_rows = 64;
};
/// A GPU wants larger products, and launches cost more than padding there.
TileShape TileShapeFor(c10::Device device);

/// `value` rounded up to a multiple of `unit`.
constexpr std::int64_t RoundUp(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

/// Reusable fp32 memory of one pass: the first touch of fresh memory costs more
/// than what is computed with it. Threads: safe.
class BufferPool {
 public:
  explicit BufferPool(c10::Device device) : device_(device) {}

  /// A contiguous tensor [rows, cols] with unspecified content; its memory goes
  /// back when the lease ends.
  class Lease {
   public:
    Lease(BufferPool& pool, at::Tensor memory, std::int64_t rows,
          std::int64_t cols);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    const at::Tensor& operator*() const { return tensor_; }
    const at::Tensor* operator->() const { return &tensor_; }

   private:
    BufferPool& pool_;
    at::Tensor memory_;
    at::Tensor tensor_;
  };
  Lease Take(std::int64_t rows, std::int64_t cols);

 private:
  c10::Device device_;
  Mutex mutex_;
  std::vector<at::Tensor> free_ ABSL_GUARDED_BY(mutex_);
};

/// What every step of one pass shares. Threads: immutable; members are safe.
struct PassResources {
  c10::Device device;
  TileShape shape;
  ThreadPool& pool;
  const RunContext& context;
  BufferPool& buffers;

  absl::Status Parallel(
      std::int64_t n,
      const std::function<absl::Status(std::int64_t)>& body) const;
};

/// out = x · weightᵀ (+ bias): one widening of each slice of weights, one
/// product per tile and slice. `x` [R, inputs] and `out` [R, outputs] are fp32
/// with R a multiple of the tile.
absl::Status Linear(const PassResources& pass, const at::Tensor& x,
                    const LinearWeights& weights, const at::Tensor& out);

/// out = down (act(gate x) ⊙ up x), neurons summed slice by slice in rising
/// order; each map adds its bias where it has one, and act is the config's (with
/// what it does to up x). `activation` [R, F] receives act(gate x) if it is
/// defined. `x` and `out` [R, D]; R is a multiple of the tile.
absl::Status FeedForward(const PassResources& pass, const ModelConfig& config,
                         const at::Tensor& x, const BlockWeights& weights,
                         const at::Tensor& activation, const at::Tensor& out);

/// x / sqrt(mean(x²) + epsilon) ⊙ weight over the last dimension in fp32, one
/// tile; without the factor where `weight` is undefined.
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight,
                   double epsilon);

/// Row-wise (x - mean) / sqrt(var + epsilon) ⊙ weight (+ bias where that is
/// defined) in fp32, one tile; var divides by the width.
at::Tensor LayerNorm(const at::Tensor& x, const NormWeights& norm,
                     double epsilon);

}  // namespace moescope::model::internal
