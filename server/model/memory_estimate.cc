// What a checkpoint takes on its device: weights, and the workspace of a pass.
#include <c10/core/Device.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <thread>

#include "server/model/forward_kernels_internal.h"
#include "server/model/resident_weights_internal.h"
#include "server/model/self_attention_internal.h"

#include "moescope/model/model.h"

namespace moescope::model {
namespace {

using internal::RoundUp;

constexpr std::int64_t kFloatBytes = 4;

// Numbers of fp32 values; int64 ones count twice.
class WorkspaceEstimator {
 public:
  WorkspaceEstimator(const ModelConfig& config, const c10::Device& device,
                     const PassSize& size)
      : config_(config),
        device_(device),
        size_(size),
        shape_(internal::TileShapeFor(device)),
        rows_(RoundUp(std::max<std::int64_t>(1, size.tokens),
                      shape_.tile_rows)),
        block_rows_(std::min(shape_.block_rows, rows_)) {}

  std::int64_t Floats() const {
    const std::int64_t threads = std::max<std::int64_t>(
        1, size_.threads > 0 ? size_.threads
                             : std::thread::hardware_concurrency());
    const std::int64_t choices =
        block_rows_ * config_.router.experts_per_token * config_.width;
    const std::int64_t logits =
        size_.logits ? block_rows_ * config_.vocab_size : 0;
    // Buffers of a step that has ended are kept for the next: they add up.
    return rows_ * FloatsPerToken() + choices + logits +
           std::max({threads * Expert(), Dense(threads),
                     threads * Attention()});
  }

 private:
  std::int64_t FloatsPerToken() const {
    const std::int64_t width = config_.width;
    // Of a layer's feed-forward half: input and output; with a shared block its
    // output, the sum of both and, as in a dense layer, sums by tile.
    const std::int64_t outputs =
        config_.num_experts == 0 ? 3 : config_.shared_width > 0 ? 5 : 2;
    // Attention leaves its input, its output and what is as wide as these.
    const std::int64_t left =
        config_.num_heads * config_.QueryWidth() >= width ? 4 : 2;
    const std::int64_t streams = 3 + std::max<std::int64_t>(0, outputs - left);
    const std::int64_t routing =
        (config_.router.corrected ? 3 : 2) * config_.num_experts +
        3 * config_.router.experts_per_token + 1;
    const std::int64_t positions_and_ids = config_.RotatedWidth() + 2;
    return streams * width + internal::AttentionFloats(config_) + routing +
           positions_and_ids;
  }

  // Neurons that are widened together.
  std::int64_t Slice(std::int64_t width) const {
    return std::min(shape_.slice, width);
  }

  // One expert at work on all rows of a block: widened weights, what one tile
  // makes of them, rows in and out.
  std::int64_t Expert() const {
    if (config_.num_experts == 0) {
      return 0;
    }
    const std::int64_t activation =
        size_.all_experts ? config_.expert_width : config_.width;
    const std::int64_t slice = Slice(config_.expert_width);
    return block_rows_ * (3 * config_.width + activation) +
           3 * slice * config_.width + 2 * shape_.tile_rows * slice;
  }

  // A dense layer or a shared block: all threads are at the same slice.
  std::int64_t Dense(std::int64_t threads) const {
    const std::int64_t slice =
        Slice(std::max(config_.shared_width, config_.dense_width));
    return 3 * slice * config_.width +
           threads * 2 * shape_.tile_rows * slice;
  }

  std::int64_t Attention() const {
    return Slice(config_.num_heads * config_.QueryWidth()) * config_.width +
           Scores();
  }

  // Attention of one tile of queries to the longest sequence: scores exist up
  // to three times, raw, with the sink and as shares. A GPU takes all heads
  // together.
  std::int64_t Scores() const {
    const std::int64_t groups = device_.is_cpu() ? 1 : config_.num_kv_heads;
    const std::int64_t heads =
        groups * (config_.num_heads / config_.num_kv_heads);
    std::int64_t longest = std::min(
        size_.longest_sequence > 0 ? size_.longest_sequence : rows_,
        config_.max_positions);
    longest = RoundUp(std::min(longest, rows_), shape_.query_rows);
    const std::int64_t widths = config_.QueryWidth() + config_.ValueWidth();
    const std::int64_t copies = config_.attention.sinks ? 3 : 2;
    // The mask: one byte for each of three comparisons.
    return shape_.query_rows * longest * (copies * heads + 1) +
           (groups * longest + heads * shape_.query_rows) * widths;
  }

  const ModelConfig& config_;
  const c10::Device device_;
  const PassSize& size_;
  const internal::TileShape shape_;
  const std::int64_t rows_;
  const std::int64_t block_rows_;
};

}  // namespace

MemoryEstimate Model::Estimate(const Checkpoint& checkpoint,
                               const std::string& device,
                               const PassSize& size) {
  MemoryEstimate estimate;
  estimate.weight_bytes = internal::ResidentBytes(checkpoint);
  estimate.workspace_bytes =
      kFloatBytes * WorkspaceEstimator(checkpoint.config(), c10::Device(device),
                                       size)
                        .Floats();
  return estimate;
}

}  // namespace moescope::model
