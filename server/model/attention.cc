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

// Rows [begin, begin + count) of `x` as heads [head, head + heads), padded with
// zero rows to `padded`: [heads, padded, head_dim].
at::Tensor GatherHeads(const at::Tensor& x, std::int64_t begin,
                       std::int64_t count, std::int64_t padded,
                       std::int64_t head, std::int64_t heads,
                       std::int64_t head_dim) {
  const at::Tensor gathered = at::zeros({heads, padded, head_dim}, x.options());
  gathered.narrow(1, 0, count)
      .copy_(x.narrow(0, begin, count)
                 .narrow(1, head * head_dim, heads * head_dim)
                 .view({count, heads, head_dim})
                 .transpose(0, 1));
  return gathered;
}

// True where the query must not see the key: [queries, keys].
at::Tensor HiddenKeys(std::int64_t first_query, std::int64_t queries,
                      std::int64_t first_key, std::int64_t keys,
                      const LayerConfig& layer, c10::Device device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor i =
      at::arange(first_query, first_query + queries, options).unsqueeze(1);
  const at::Tensor j =
      at::arange(first_key, first_key + keys, options).unsqueeze(0);
  at::Tensor hidden = j > i;
  if (layer.sliding_window) {
    hidden = hidden.logical_or(j <= i - *layer.sliding_window);
  }
  return hidden;
}

void AttendTile(const PassResources& pass, const ModelConfig& config,
                const LayerConfig& layer,
                const Task& task, const at::Tensor& q, const at::Tensor& k,
                const at::Tensor& v, const at::Tensor& out) {
  const std::int64_t queries = pass.shape.query_rows;
  const std::int64_t dim = config.head_dim;
  const std::int64_t group = config.num_heads / config.num_kv_heads;
  const std::int64_t count = std::min(queries, task.length - task.first);
  // Keys from a whole tile on, to the end of the query's own tile: the shape
  // says nothing of the rest of the sequence.
  std::int64_t first_key = 0;
  if (layer.sliding_window) {
    first_key =
        std::max<std::int64_t>(0, task.first - *layer.sliding_window + 1) /
        queries * queries;
  }
  const std::int64_t keys = task.first + queries - first_key;
  const std::int64_t real_keys = task.first + count - first_key;

  const at::Tensor query =
      GatherHeads(q, task.row_begin + task.first, count, queries,
                  task.head * group, task.num_heads * group, dim)
          .view({task.num_heads, group * queries, dim});
  const at::Tensor key = GatherHeads(k, task.row_begin + first_key, real_keys,
                                     keys, task.head, task.num_heads, dim);
  const at::Tensor value = GatherHeads(v, task.row_begin + first_key, real_keys,
                                       keys, task.head, task.num_heads, dim);
  at::Tensor scores =
      at::bmm(query, key.transpose(1, 2));  // [heads, group * queries, keys]
  scores.mul_(1.0 / std::sqrt(static_cast<double>(dim)));
  scores.view({task.num_heads, group, queries, keys})
      .masked_fill_(
          HiddenKeys(task.first, queries, first_key, keys, layer, pass.device),
          -std::numeric_limits<double>::infinity());
  const at::Tensor mixed = at::bmm(at::softmax(scores, -1), value)
                               .view({task.num_heads * group, queries, dim});
  out.narrow(0, task.row_begin + task.first, count)
      .narrow(1, task.head * group * dim, task.num_heads * group * dim)
      .view({count, task.num_heads * group, dim})
      .copy_(mixed.narrow(1, 0, count).transpose(0, 1));
}

}  // namespace

RopeTables MakeRopeTables(absl::Span<const std::int64_t> lengths,
                          std::int64_t rows, const ModelConfig& config,
                          c10::Device device) {
  const std::int64_t half = config.head_dim / 2;
  std::vector<std::int64_t> positions(static_cast<std::size_t>(rows), 0);
  std::int64_t longest = 1;
  std::size_t row = 0;
  for (const std::int64_t length : lengths) {
    longest = std::max(longest, length);
    for (std::int64_t position = 0; position < length; ++position) {
      positions[row++] = position;
    }
  }
  std::vector<double> divisors;
  for (std::int64_t i = 0; i < half; ++i) {
    divisors.push_back(std::pow(
        config.rope.theta,
        static_cast<double>(2 * i) / static_cast<double>(config.head_dim)));
  }
  std::vector<float> cosine;
  std::vector<float> sine;
  cosine.reserve(static_cast<std::size_t>(longest * half));
  sine.reserve(static_cast<std::size_t>(longest * half));
  for (std::int64_t position = 0; position < longest; ++position) {
    for (const double divisor : divisors) {
      const double angle = static_cast<double>(position) / divisor;
      cosine.push_back(static_cast<float>(std::cos(angle)));
      sine.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  const at::Tensor index = CopyToDevice(positions, device);
  return {
      CopyToDevice(cosine, device).view({longest, half}).index_select(0, index),
      CopyToDevice(sine, device).view({longest, half}).index_select(0, index)};
}

absl::Status ApplyRope(const PassResources& pass, const RopeTables& tables,
                       std::int64_t head_dim, const at::Tensor& x) {
  const std::int64_t tile = pass.shape.tile_rows;
  const std::int64_t half = head_dim / 2;
  return pass.Parallel(x.size(0) / tile, [&](std::int64_t t) {
    const at::Tensor heads =
        x.narrow(0, t * tile, tile).view({tile, -1, head_dim});
    const at::Tensor cosine =
        tables.cosine.narrow(0, t * tile, tile).unsqueeze(1);
    const at::Tensor sine = tables.sine.narrow(0, t * tile, tile).unsqueeze(1);
    const at::Tensor low = heads.narrow(2, 0, half).clone();
    const at::Tensor high = heads.narrow(2, half, half).clone();
    heads.narrow(2, 0, half).copy_(low * cosine - high * sine);
    heads.narrow(2, half, half).copy_(high * cosine + low * sine);
    return absl::OkStatus();
  });
}

absl::Status Attention(const PassResources& pass,
                       absl::Span<const std::int64_t> lengths,
                       const ModelConfig& config, std::int64_t layer,
                       const at::Tensor& q,
                       const at::Tensor& k, const at::Tensor& v,
                       const at::Tensor& out) {
  std::int64_t rows = 0;
  for (const std::int64_t length : lengths) {
    rows += length;
  }
  out.narrow(0, rows, out.size(0) - rows).zero_();
  const LayerConfig& layer_config =
      config.layers[static_cast<std::size_t>(layer)];
  const std::vector<Task> tasks = MakeTasks(pass, lengths, config.num_kv_heads);
  return pass.Parallel(
      static_cast<std::int64_t>(tasks.size()), [&](std::int64_t index) {
        AttendTile(pass, config, layer_config, tasks[static_cast<std::size_t>(index)], q, k,
                   v, out);
        return absl::OkStatus();
      });
}

}  // namespace moescope::model::internal
