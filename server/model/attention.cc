#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "server/model/attention_internal.h"
#include "server/model/torch_tensor_internal.h"

namespace moescope::model::internal {
namespace {

// Queries [first, first + query_rows) of the sequence that starts at row
// `row_begin`, for the key/value heads [head, head + num_heads).
struct Task {
  std::int64_t row_begin = 0;
  std::int64_t length = 0;
  std::int64_t first = 0;
  std::int64_t head = 0;
  std::int64_t num_heads = 0;
};

// A GPU takes all heads in one product; a processor gets one task per head.
std::vector<Task> MakeTasks(const PassResources& pass,
                            absl::Span<const std::int64_t> lengths,
                            std::int64_t kv_heads) {
  const std::int64_t heads_per_task = pass.device.is_cpu() ? 1 : kv_heads;
  std::vector<Task> tasks;
  std::int64_t row = 0;
  for (const std::int64_t length : lengths) {
    for (std::int64_t first = 0; first < length;
         first += pass.shape.query_rows) {
      for (std::int64_t head = 0; head < kv_heads; head += heads_per_task) {
        tasks.push_back({row, length, first, head, heads_per_task});
      }
    }
    row += length;
  }
  return tasks;
}

// Rows [begin, begin + count) of heads [head, head + heads), to be
// padded with zero rows to `padded`.
struct Window {
  std::int64_t begin = 0;
  std::int64_t count = 0;
  std::int64_t padded = 0;
  std::int64_t head = 0;
  std::int64_t heads = 0;
};

// [heads, padded, width of x and shared]; `shared` [R, width] or undefined.
at::Tensor Gather(const at::Tensor& x, const at::Tensor& shared,
                  const Window& window) {
  const std::int64_t own = x.size(2);
  const std::int64_t common = shared.defined() ? shared.size(1) : 0;
  const at::Tensor gathered =
      at::zeros({window.heads, window.padded, own + common}, x.options());
  const at::Tensor rows = gathered.narrow(1, 0, window.count);
  rows.narrow(2, 0, own)
      .copy_(x.narrow(0, window.begin, window.count)
                 .narrow(1, window.head, window.heads)
                 .transpose(0, 1));
  if (common > 0) {
    rows.narrow(2, own, common)
        .copy_(shared.narrow(0, window.begin, window.count)
                   .unsqueeze(0)
                   .expand({window.heads, window.count, common}));
  }
  return gathered;
}

// The first position that query `i` may see.
std::int64_t FirstVisible(const LayerConfig& layer, std::int64_t i) {
  std::int64_t first = 0;
  if (layer.sliding_window) {
    first = std::max(first, i - *layer.sliding_window + 1);
  }
  if (layer.attention_chunk) {
    first = std::max(first, i / *layer.attention_chunk * *layer.attention_chunk);
  }
  return first;
}

// True where the query must not see the key: [queries, keys].
at::Tensor HiddenKeys(std::int64_t first_query, std::int64_t queries,
                      std::int64_t first_key, std::int64_t keys,
                      const LayerConfig& layer, c10::Device device) {
  std::vector<std::int64_t> first_visible;
  for (std::int64_t i = 0; i < queries; ++i) {
    first_visible.push_back(FirstVisible(layer, first_query + i));
  }
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor i =
      at::arange(first_query, first_query + queries, options).unsqueeze(1);
  const at::Tensor j =
      at::arange(first_key, first_key + keys, options).unsqueeze(0);
  return (j > i).logical_or(
      j < CopyToDevice(first_visible, device).unsqueeze(1));
}

// softmax over the last dimension of `scores` [heads, queries, keys], with one
// more logit per head that gets no value. `sinks` [heads] or undefined.
at::Tensor Softmax(const at::Tensor& scores, const at::Tensor& sinks) {
  if (!sinks.defined()) {
    return at::softmax(scores, -1);
  }
  const at::Tensor column =
      sinks.view({-1, 1, 1}).expand({scores.size(0), scores.size(1), 1});
  return at::softmax(at::cat({scores, column}, -1), -1)
      .narrow(2, 0, scores.size(2))
      .contiguous();
}

void AttendTile(const PassResources& pass, const AttentionConfig& config,
                const LayerConfig& layer, const Task& task,
                const AttentionHeads& x, const at::Tensor& out) {
  const std::int64_t queries = pass.shape.query_rows;
  const std::int64_t group = x.q.size(1) / x.k.size(1);
  const std::int64_t first_head = task.head * group;
  const std::int64_t num_heads = task.num_heads * group;
  const std::int64_t count = std::min(queries, task.length - task.first);
  // Keys from a whole tile on, to the end of the query's own tile: the shape
  // says nothing of the rest of the sequence.
  const std::int64_t first_key =
      FirstVisible(layer, task.first) / queries * queries;
  const std::int64_t keys = task.first + queries - first_key;

  const at::Tensor query =
      Gather(x.q, at::Tensor(),
             {task.row_begin + task.first, count, queries, first_head,
              num_heads})
          .view({task.num_heads, group * queries, x.q.size(2)});
  const Window seen = {task.row_begin + first_key,
                       task.first + count - first_key, keys, task.head,
                       task.num_heads};
  const at::Tensor key = Gather(x.k, x.shared_key, seen);
  const at::Tensor value = Gather(x.v, at::Tensor(), seen);
  at::Tensor scores =
      at::bmm(query, key.transpose(1, 2));  // [heads, group * queries, keys]
  scores.mul_(config.scale.value_or(
      1.0 / std::sqrt(static_cast<double>(x.q.size(2)))));
  if (config.score_cap) {
    scores.div_(*config.score_cap).tanh_().mul_(*config.score_cap);
  }
  scores.view({num_heads, queries, keys})
      .masked_fill_(
          HiddenKeys(task.first, queries, first_key, keys, layer, pass.device),
          -std::numeric_limits<double>::infinity());
  const at::Tensor shares =
      Softmax(scores.view({num_heads, queries, keys}),
              x.sinks.defined() ? x.sinks.narrow(0, first_head, num_heads)
                                : at::Tensor());
  const at::Tensor mixed =
      at::bmm(shares.view({task.num_heads, group * queries, keys}), value)
          .view({num_heads, queries, x.v.size(2)});
  out.narrow(0, task.row_begin + task.first, count)
      .narrow(1, first_head, num_heads)
      .copy_(mixed.narrow(1, 0, count).transpose(0, 1));
}

}  // namespace

absl::Status Attention(const PassResources& pass,
                       absl::Span<const std::int64_t> lengths,
                       const AttentionConfig& config, const LayerConfig& layer,
                       const AttentionHeads& heads, const at::Tensor& out) {
  std::int64_t rows = 0;
  for (const std::int64_t length : lengths) {
    rows += length;
  }
  out.narrow(0, rows, out.size(0) - rows).zero_();
  const std::vector<Task> tasks = MakeTasks(pass, lengths, heads.k.size(1));
  return pass.Parallel(
      static_cast<std::int64_t>(tasks.size()), [&](std::int64_t index) {
        AttendTile(pass, config, layer, tasks[static_cast<std::size_t>(index)],
                   heads, out);
        return absl::OkStatus();
      });
}

}  // namespace moescope::model::internal
