#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "server/model/attention_internal.h"

namespace moescope::model::internal {
namespace {

struct Case {
  const char* name;
  AttentionConfig attention;
  LayerConfig layer;
  std::int64_t shared_width;
  bool sinks;
};

std::string Name(const testing::TestParamInfo<Case>& info) {
  return info.param.name;
}
void PrintTo(const Case& row, std::ostream* out) { *out << row.name; }

Case Plain() { return {"Plain", {}, {}, 0, false}; }
Case Windowed(std::int64_t window) {
  Case row = Plain();
  row.name = "Windowed";
  row.layer.sliding_window = window;
  return row;
}
Case Chunked(std::int64_t chunk) {
  Case row = Plain();
  row.name = "Chunked";
  row.layer.attention_chunk = chunk;
  return row;
}
Case ScaledAndCapped() {
  Case row = Plain();
  row.name = "ScaledAndCapped";
  row.attention.scale = 0.7;
  row.attention.score_cap = 1.5;
  return row;
}
Case WithSinks() {
  Case row = Windowed(9);
  row.name = "WithSinks";
  row.sinks = true;
  return row;
}
Case WithSharedKey() {
  Case row = Plain();
  row.name = "WithSharedKey";
  row.shared_width = 4;
  return row;
}

constexpr std::int64_t kHeads = 4;
constexpr std::int64_t kKvHeads = 2;
constexpr std::int64_t kQueryWidth = 12;
constexpr std::int64_t kValueWidth = 6;
constexpr std::int64_t kTile = 64;

// Values in about ±1 that differ from element to element.
at::Tensor Values(std::vector<std::int64_t> shape, double seed) {
  std::int64_t size = 1;
  for (const std::int64_t n : shape) size *= n;
  return at::sin(at::arange(size, at::kFloat) * 1.7 + seed).view(shape) * 1.3;
}

AttentionHeads MakeHeads(const Case& row, std::int64_t rows) {
  AttentionHeads heads;
  heads.q = Values({rows, kHeads, kQueryWidth}, 0.1);
  heads.k = Values({rows, kKvHeads, kQueryWidth - row.shared_width}, 0.2);
  heads.v = Values({rows, kKvHeads, kValueWidth}, 0.3);
  if (row.shared_width > 0) {
    heads.shared_key = Values({rows, row.shared_width}, 0.4);
  }
  if (row.sinks) heads.sinks = Values({kHeads}, 0.5);
  return heads;
}

bool Sees(const LayerConfig& layer, std::int64_t i, std::int64_t j) {
  const bool in_window =
      !layer.sliding_window || i - j < *layer.sliding_window;
  const bool in_chunk = !layer.attention_chunk ||
                        i / *layer.attention_chunk ==
                            j / *layer.attention_chunk;
  return j <= i && in_window && in_chunk;
}

double Score(const Case& row, const at::Tensor& query, const at::Tensor& key) {
  const double scale =
      row.attention.scale.value_or(1 / std::sqrt(double{kQueryWidth}));
  const double score = scale * (query * key).sum().item<double>();
  return row.attention.score_cap
             ? *row.attention.score_cap *
                   std::tanh(score / *row.attention.score_cap)
             : score;
}

// Token `i` of a sequence that starts at row `begin`, head `h`, by the
// definition in fp64.
at::Tensor Attend(const Case& row, const AttentionHeads& x, std::int64_t begin,
                  std::int64_t i, std::int64_t h) {
  const std::int64_t g = h / (kHeads / kKvHeads);
  const at::Tensor query = x.q[begin + i][h].to(at::kDouble);
  double sum = row.sinks ? std::exp(x.sinks[h].item<double>()) : 0.0;
  at::Tensor mixed = at::zeros({kValueWidth}, at::kDouble);
  for (std::int64_t j = 0; j <= i; ++j) {
    if (!Sees(row.layer, i, j)) continue;
    at::Tensor key = x.k[begin + j][g];
    if (x.shared_key.defined()) key = at::cat({key, x.shared_key[begin + j]});
    const double weight = std::exp(Score(row, query, key.to(at::kDouble)));
    sum += weight;
    mixed += weight * x.v[begin + j][g].to(at::kDouble);
  }
  return mixed / sum;
}

at::Tensor Naive(const Case& row, const AttentionHeads& x,
                 const std::vector<std::int64_t>& lengths) {
  const at::Tensor out =
      at::zeros({x.q.size(0), kHeads, kValueWidth}, at::kDouble);
  std::int64_t begin = 0;
  for (const std::int64_t length : lengths) {
    for (std::int64_t i = 0; i < length; ++i) {
      for (std::int64_t h = 0; h < kHeads; ++h) {
        out[begin + i][h].copy_(Attend(row, x, begin, i, h));
      }
    }
    begin += length;
  }
  return out;
}

at::Tensor Attended(const Case& row, const AttentionHeads& x,
                    const std::vector<std::int64_t>& lengths) {
  ThreadPool pool(2);
  const RunContext context;
  BufferPool buffers(at::kCPU);
  const at::Tensor out = at::full({x.q.size(0), kHeads, kValueWidth}, 7.0F);
  const absl::Status status =
      Attention({at::kCPU, TileShape(), pool, context, buffers}, lengths,
                row.attention, row.layer, x, out);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

class AttentionTest : public testing::TestWithParam<Case> {};

// Scores are sums of 12 products below 1.7, shares and values below 1.3: errors
// of a few 1e-7.
TEST_P(AttentionTest, EqualsTheDefinitionForPackedSequences) {
  const std::vector<std::int64_t> lengths = {70, 1, 40};
  const AttentionHeads heads = MakeHeads(GetParam(), 2 * kTile);

  const at::Tensor out = Attended(GetParam(), heads, lengths);

  EXPECT_LE((out - Naive(GetParam(), heads, lengths))
                .abs()
                .max()
                .item<double>(),
            2e-6);
}

TEST_P(AttentionTest, RowsBehindTheLastSequenceAreZero) {
  const at::Tensor out =
      Attended(GetParam(), MakeHeads(GetParam(), kTile), {5});

  EXPECT_EQ(out.narrow(0, 5, kTile - 5).abs().max().item<float>(), 0.0F);
}

INSTANTIATE_TEST_SUITE_P(Features, AttentionTest,
                         testing::Values(Plain(), Windowed(5), Chunked(9),
                                         ScaledAndCapped(), WithSinks(),
                                         WithSharedKey()),
                         &Name);

}  // namespace
}  // namespace moescope::model::internal
