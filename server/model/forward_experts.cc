#include <ATen/ATen.h>

#include <algorithm>

#include "server/model/forward_experts_internal.h"
#include "server/model/torch_tensor_internal.h"

#include "moescope/base/status_macros.h"

namespace moescope::model::internal {
namespace {

// Who chose an expert, inside one block.
struct Choices {
  std::vector<std::int64_t> rows;   // of the block, rising
  std::vector<std::int64_t> slots;  // row * K + j
};

struct Block {
  std::int64_t begin = 0;   // first token
  std::int64_t tokens = 0;  // real ones
  std::int64_t rows = 0;    // in whole tiles
  std::vector<Choices> by_expert;
};

Block MakeBlock(const PassResources& pass, const ExpertTask& task,
                std::int64_t begin, std::int64_t per_token) {
  Block block;
  block.begin = begin;
  block.tokens = std::min(pass.shape.block_rows, task.num_tokens - begin);
  block.rows = RoundUp(block.tokens, pass.shape.tile_rows);
  block.by_expert.resize(task.weights->experts.size());
  for (std::int64_t row = 0; row < block.tokens; ++row) {
    for (std::int64_t j = 0; j < per_token; ++j) {
      const auto choice =
          static_cast<std::size_t>((begin + row) * per_token + j);
      Choices& chosen =
          block.by_expert[static_cast<std::size_t>(task.ids[choice])];
      chosen.rows.push_back(row);
      chosen.slots.push_back(row * per_token + j);
    }
  }
  return block;
}

// Rows of `x` times the weight of the choice that each stands for.
void ScaleRows(const PassResources& pass, const ExpertTask& task,
               const Block& block, const Choices& chosen,
               const at::Tensor& x) {
  const at::Tensor weights =
      task.topk_weights.narrow(0, block.begin, block.rows)
          .reshape({-1})
          .index_select(0, CopyToDevice(chosen.slots, pass.device));
  x.mul_(weights.unsqueeze(1));
}

// One expert on the rows of the block that chose it.
absl::Status RunOnChosen(const PassResources& pass, const ExpertTask& task,
                         const Block& block, std::int64_t expert,
                         const at::Tensor& slots) {
  const auto index = static_cast<std::size_t>(expert);
  const Choices& chosen = block.by_expert[index];
  if (chosen.rows.empty()) {
    return absl::OkStatus();
  }
  const BlockWeights& weights = task.weights->experts[index];
  const std::int64_t width = task.moe_input.size(1);
  const auto count = static_cast<std::int64_t>(chosen.rows.size());
  const std::int64_t rows = RoundUp(count, pass.shape.tile_rows);
  const auto input = pass.buffers.Take(rows, width);
  const auto output = pass.buffers.Take(rows, width);
  const at::Tensor real = input->narrow(0, 0, count);
  real.copy_(task.moe_input.narrow(0, block.begin, block.rows)
                 .index_select(0, CopyToDevice(chosen.rows, pass.device)));
  if (task.config->router.scales_input) {
    ScaleRows(pass, task, block, chosen, real);
  }
  input->narrow(0, count, rows - count).zero_();
  MOESCOPE_RETURN_IF_ERROR(FeedForward(pass, *task.config, *input, weights,
                                       at::Tensor(), *output));
  slots.index_copy_(0, CopyToDevice(chosen.slots, pass.device),
                    output->narrow(0, 0, count));
  return absl::OkStatus();
}

// One expert on all rows of the block.
absl::Status RunOnAll(const PassResources& pass, const ExpertTask& task,
                      const Block& block, std::int64_t expert,
                      const at::Tensor& slots) {
  const auto index = static_cast<std::size_t>(expert);
  const BlockWeights& weights = task.weights->experts[index];
  const auto activation = pass.buffers.Take(block.rows, weights.gate.size(0));
  const auto output = pass.buffers.Take(block.rows, task.moe_input.size(1));
  MOESCOPE_RETURN_IF_ERROR(
      FeedForward(pass, *task.config,
                  task.moe_input.narrow(0, block.begin, block.rows), weights,
                  *activation, *output));
  MOESCOPE_RETURN_IF_ERROR(task.observer->OnExpertRows(
      {task.layer, expert, block.begin, activation->narrow(0, 0, block.tokens),
       output->narrow(0, 0, block.tokens)}));
  const Choices& chosen = block.by_expert[index];
  if (!slots.defined() || chosen.rows.empty()) return absl::OkStatus();
  if (task.config->router.scales_input) {
    return RunOnChosen(pass, task, block, expert, slots);
  }
  slots.index_copy_(
      0, CopyToDevice(chosen.slots, pass.device),
      output->index_select(0, CopyToDevice(chosen.rows, pass.device)));
  return absl::OkStatus();
}

// Two roundings per term, never a fused one: then vectors and remainders of a
// loop give the same bits.
absl::Status Combine(const PassResources& pass, const ExpertTask& task,
                     const Block& block, const at::Tensor& slots,
                     const at::Tensor& routed) {
  const std::int64_t tile = pass.shape.tile_rows;
  const std::int64_t per_token = task.topk_weights.size(1);
  return pass.Parallel(block.rows / tile, [&](std::int64_t t) {
    const at::Tensor outputs =
        slots.narrow(0, t * tile * per_token, tile * per_token)
            .view({tile, per_token, routed.size(1)});
    const std::int64_t row = block.begin + t * tile;
    const at::Tensor weights = task.topk_weights.narrow(0, row, tile);
    const auto term = [&](std::int64_t j) {
      const at::Tensor output = outputs.select(1, j);
      return task.config->router.scales_input
                 ? output.clone()
                 : output * weights.narrow(1, j, 1);
    };
    at::Tensor sum = term(0);
    for (std::int64_t j = 1; j < per_token; ++j) {
      sum.add_(term(j));
    }
    routed.narrow(0, row, tile).copy_(sum);
    return absl::OkStatus();
  });
}

}  // namespace

absl::Status RunExperts(const PassResources& pass, const ExpertTask& task,
                        const at::Tensor& routed) {
  const auto num_experts =
      static_cast<std::int64_t>(task.weights->experts.size());
  const std::int64_t per_token = task.topk_weights.size(1);
  const std::int64_t width = task.moe_input.size(1);
  for (std::int64_t begin = 0; begin < task.num_tokens;
       begin += pass.shape.block_rows) {
    const Block block = MakeBlock(pass, task, begin, per_token);
    const auto lease =
        pass.buffers.Take(routed.defined() ? block.rows * per_token : 0, width);
    at::Tensor slots;
    if (routed.defined()) {
      slots = *lease;
      // Rows of padding are summed like all others.
      slots
          .narrow(0, block.tokens * per_token,
                  (block.rows - block.tokens) * per_token)
          .zero_();
    }
    MOESCOPE_RETURN_IF_ERROR(
        pass.Parallel(num_experts, [&](std::int64_t expert) {
          return task.observer != nullptr
                     ? RunOnAll(pass, task, block, expert, slots)
                     : RunOnChosen(pass, task, block, expert, slots);
        }));
    if (routed.defined()) {
      MOESCOPE_RETURN_IF_ERROR(Combine(pass, task, block, slots, routed));
    }
  }
  return absl::OkStatus();
}

}  // namespace moescope::model::internal
