#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/analysis/matched_pair_internal.h"
#include "server/analysis/token_blocks_internal.h"

#include "moescope/analysis/catalogue.h"
#include "moescope/base/page_cache.h"
#include "moescope/model/model.h"
#include "moescope/numerics/device_similarities.h"
#include "moescope/numerics/matching_null.h"
#include "moescope/numerics/neuron_cosine.h"

namespace moescope::analysis {
namespace {

// Of what is not in the page cache: solid-state disks give 0.5 to 5 GB/s.
constexpr double kDiskBytesPerSecond = 1e9;
// Each thread, through the kernels that read every weight once and do little
// with it.
constexpr double kThreadBytesPerSecond = 7.5e9;
// Parts of the rate of large fp32 products. Products of neurons waste some of
// their tiles; where the processor has products of bf16 they are twice as fast.
constexpr double kNeuronShare = 0.7;
constexpr double kBFloat16Gain = 1.6;
// A band reduction: products of fp64 with a short side.
constexpr double kEigenShare = 0.27;
// QL iterations, on one thread, per eigenvalue and eigenvalue.
constexpr double kQlSeconds = 1e-8;
// Exact assignment, on one thread, per neuron and neuron.
constexpr double kAssignmentSeconds = 5e-9;
// Drawing a null's matrices, and the products of these.
constexpr double kNullShare = 0.4;
// Matrices of weights that a draw holds: six, and as much again while they are
// made and laid out for products.
constexpr std::int64_t kDrawnMatrices = 13;
// Beside products, passes do attention, routing and copies.
constexpr double kForwardShare = 0.5;
// What any run allocates: chunks on their way out, and buffers of each thread.
constexpr std::int64_t kRunBytes = 8 << 20;
constexpr std::int64_t kThreadBytes = 1 << 20;
// Of activation_statistics, per neuron: ten sums and maxima of 8 bytes, and
// their images while the answer is made.
constexpr std::int64_t kNeuronStateBytes = 160;
constexpr std::int64_t kTopTokenBytes = 12;
constexpr double kStandardiseFlops = 6;
// Of effective_rank: a chase through a band, per line and line; lines of a tile;
// columns of the matrices beside the tiles.
constexpr double kBandFlops = 300;
constexpr std::int64_t kTileLines = 192;
constexpr std::int64_t kReductionColumns = 500;
// Vectors of both Krylov bases of neuron_pca, and of its scores' products.
constexpr std::int64_t kKrylovVectors = 2 * 480 + 64;
// Its decompositions in that basis: matrix, vectors and the library's room.
constexpr std::int64_t kKrylovBytes = std::int64_t{6} * 8 * 480 * 480;
// Sums over a part of the rows, of each participant and column, that one reading
// of many matrices keeps at most until they are added up in order.
constexpr std::int64_t kPartialSums = 32;
// Neurons that neuron_pca, or lines that effective_rank widens at once.
constexpr std::int64_t kPanelNeurons = 2048;

template <class T>
std::int64_t Count(const std::vector<T>& values) {
  return static_cast<std::int64_t>(values.size());
}

double Real(std::int64_t value) { return static_cast<double>(value); }

bool Contains(const std::vector<std::string>& values, const char* value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

// Bytes of one weight; they have one format but for small tensors.
std::int64_t BytesPerWeight(const model::Checkpoint& checkpoint) {
  if (checkpoint.config().quantisation != model::Quantisation::kNone) {
    return 1;  // 4-bit values are counted in whole bytes, too.
  }
  const std::string dtype = checkpoint.dtype();
  if (dtype == "F8_E4M3" || dtype == "U8") {
    return 1;
  }
  return dtype == "F32" ? 4 : dtype == "F64" ? 8 : 2;
}

struct Estimator {
  const model::Checkpoint& checkpoint;
  const model::ModelConfig& config;
  std::int64_t bytes_per_weight;
  const ComputePlace& place;
  double threads;
  double cached;  // share of the weight files

  std::int64_t expert_matrix() const {
    return config.expert_width * config.width;
  }

  // Computing time. `work` are operations, those of slower kernels counted
  // several times, so that they run at the rate of fp32 products; `alone` are
  // seconds of steps that keep one thread busy.
  CostEstimate Timed(CostEstimate cost, double work, double alone = 0) const {
    const double computing =
        Real(cost.bytes_read) / (threads * kThreadBytesPerSecond) +
        work / (threads * place.gemm_gflops * 1e9) + alone;
    const double reading =
        (1 - cached) * Real(cost.bytes_read) / kDiskBytesPerSecond;
    cost.seconds = std::max(reading, computing);
    return cost;
  }

  // Of an analysis of weights, whose work is its operations.
  CostEstimate Static(CostEstimate cost) const {
    cost.memory_bytes += RunBytes();
    return Timed(cost, cost.flops);
  }

  // Of a reading that sums over rows of N participants.
  std::int64_t PartialBytes(std::int64_t participants) const {
    return 8 * kPartialSums * participants * config.width;
  }

  std::int64_t RunBytes() const {
    return kRunBytes + static_cast<std::int64_t>(threads) * kThreadBytes;
  }

  // Products of neurons as the kernels make them here.
  double NeuronShare() const {
    return kNeuronShare *
           (numerics::NeuronProductType() == "bf16" && bytes_per_weight == 2
                ? kBFloat16Gain
                : 1);
  }

  CostEstimate operator()(const spec::ExpertSimilaritySpec& spec) const {
    CostEstimate cost;
    const std::int64_t layers = Count(spec.layers);
    const std::int64_t n = Count(spec.participants);
    const bool matrix = Contains(spec.levels, "matrix");
    const bool average = Contains(spec.levels, "neuron_average");
    if (matrix || average) {
      const std::int64_t coordinates =
          layers * Count(spec.projections) * expert_matrix();
      cost.bytes_read = coordinates * n * bytes_per_weight;
      cost.flops = Real(coordinates) * ((matrix ? Real(n) * Real(n + 1) : 0.0) +
                                        (average ? Real(n) : 0.0));
    }
    if (Contains(spec.levels, "router")) {
      const std::int64_t router = config.num_experts * config.width;
      cost.bytes_read += layers * router * bytes_per_weight;
      cost.flops += Real(layers * router * config.num_experts);
    }
    // Gram matrix and cosines, and the mean neurons, all in fp64.
    cost.memory_bytes =
        8 * (4 * n * n + 2 * n * config.width) + PartialBytes(n);
    return Static(cost);
  }

  CostEstimate operator()(const spec::NeuronWeightStatisticsSpec& spec) const {
    CostEstimate cost;
    const std::int64_t n = Count(spec.participants);
    const std::int64_t matrices =
        Count(spec.layers) * Count(spec.projections) * n;
    const std::int64_t small = std::min(config.expert_width, config.width);
    cost.bytes_read = matrices * expert_matrix() * bytes_per_weight *
                      (spec.effective_rank ? 2 : 1);
    cost.flops = 2 * Real(matrices * expert_matrix());
    cost.memory_bytes = 8 * 2 * n * config.expert_width + PartialBytes(n);
    cost.memory_bytes += RunBytes();
    if (!spec.effective_rank) {
      return Timed(cost, cost.flops);
    }
    const double products = Real(matrices) * Real(expert_matrix()) * Real(small);
    const double reduction =
        Real(matrices) * Real(small) * Real(small) *
        (4.0 / 3.0 * Real(small) + kBandFlops);
    const double work = cost.flops + products / NeuronShare() +
                        reduction / kEigenShare;
    cost.flops += products + reduction;
    // Half a Gram matrix with what its tiles have beyond it, a panel of the
    // longer side, and the panels and the band of the reduction.
    const std::int64_t tiled = small + kTileLines;
    cost.memory_bytes += 4 * tiled * tiled + 4 * kPanelNeurons * tiled +
                         8 * kReductionColumns * small;
    return Timed(cost, work,
                 Real(matrices) * kQlSeconds * Real(small) * Real(small));
  }

  // Weights that a static analysis reads, N participants counted with a routed
  // expert's width.
  std::int64_t Coordinates(std::int64_t layers, std::int64_t projections) const {
    return layers * projections * expert_matrix();
  }

  CostEstimate operator()(const spec::RouterRegressionSpec& spec) const {
    CostEstimate cost;
    const std::int64_t layers = Count(spec.layers);
    const std::int64_t experts = config.num_experts;
    const std::int64_t weights =
        Coordinates(layers, Count(spec.projections)) * experts +
        layers * experts * config.width;
    cost.bytes_read = weights * bytes_per_weight;
    cost.flops = Real(weights) +
                 Real(layers * experts * experts * config.width) +
                 Real(layers * Count(spec.projections) * spec.draws) *
                     Real(experts * (experts - 1));
    cost.memory_bytes =
        8 * (8 * experts * experts + 3 * experts * config.width) +
        PartialBytes(experts);
    return Static(cost);
  }

  CostEstimate operator()(const spec::MatrixPcaSpec& spec) const {
    CostEstimate cost;
    const std::int64_t n = Count(spec.participants);
    const std::int64_t coordinates =
        Coordinates(Count(spec.layers), Count(spec.projections));
    cost.bytes_read = coordinates * n * bytes_per_weight;
    // Mean, deviation and quotient of every value beside the products.
    cost.flops = Real(coordinates) * Real(n) * (Real(n + 1) + kStandardiseFlops);
    cost.memory_bytes = 8 * 4 * n * n;
    return Static(cost);
  }

  CostEstimate operator()(const spec::NeuronPcaSpec& spec) const {
    CostEstimate cost;
    const std::int64_t units = Count(spec.layers) * Count(spec.projections);
    const std::int64_t neurons =
        Count(spec.participants) * config.expert_width;
    cost.bytes_read = 2 * units * neurons * config.width * bytes_per_weight;
    cost.flops = Real(units * neurons) * Real(config.width) *
                 Real(config.width + 2 * spec.dims);
    // The correlation matrix, a panel of neurons packed and widened, vectors,
    // scores.
    cost.memory_bytes = RunBytes() + 8 * config.width * config.width +
                        (2 + 4) * kPanelNeurons * config.width +
                        8 * kKrylovVectors * config.width + kKrylovBytes +
                        12 * neurons * spec.dims;
    return Timed(cost, cost.flops / NeuronShare());
  }

  CostEstimate operator()(const spec::StaticSuiteSpec& spec) const {
    spec::RouterRegressionSpec regression;
    regression.layers = spec.layers;
    regression.projections = spec.projections;
    regression.draws = spec.draws;
    spec::MatrixPcaSpec components;
    components.layers = spec.layers;
    components.projections = spec.projections;
    components.participants = spec.participants;
    CostEstimate cost = (*this)(components);
    const CostEstimate pairs = (*this)(regression);
    const std::int64_t n = Count(spec.participants);
    const double weights =
        Real(Coordinates(Count(spec.layers), Count(spec.projections)) * n);
    // The raw Gram matrix, and squares for norms.
    cost.flops += pairs.flops + weights * (Real(n + 1) + 2);
    cost.bytes_read += Count(spec.layers) * config.num_experts * config.width *
                       bytes_per_weight;
    cost.memory_bytes += pairs.memory_bytes +
                         8 * n * (config.expert_width + config.width);
    return Timed(cost, cost.flops);
  }

  CostEstimate operator()(const spec::NeuronMatchingSpec& spec) const {
    CostEstimate cost;
    // Of one part: a projection, or the three of "joint".
    const double product = 2 * Real(config.expert_width) * Real(expert_matrix());
    const bool joint = Contains(spec.projections, "joint");
    const std::int64_t products =
        Count(spec.projections) + (joint ? 2 : 0);
    const std::int64_t units = Count(spec.layers) * Count(spec.pairs) / 2;
    cost.bytes_read =
        units * products * 2 * 2 * expert_matrix() * bytes_per_weight;
    cost.flops = Real(units * products) * product;
    double work = cost.flops / NeuronShare();
    if (spec.null_draws > 0) {
      const std::int64_t width =
          std::min(config.expert_width, numerics::kMaxSimulatedWidth);
      // A half and a quarter as wide cost a third more.
      const double drawn_flops =
          Real(spec.null_draws) * 6 * 2 * Real(width) * Real(width) *
          Real(config.width) * (config.expert_width > width ? 4.0 / 3 : 1);
      cost.flops += drawn_flops;
      work += drawn_flops / kNullShare;
    }
    // In fp32 for each thread: a cost matrix and both sides of a pair, or the
    // matrices of a draw and their cost matrix, whichever is more.
    const std::int64_t drawn =
        spec.null_draws > 0
            ? std::min(config.expert_width, numerics::kMaxSimulatedWidth)
            : 0;
    cost.memory_bytes =
        static_cast<std::int64_t>(threads) * 4 *
        std::max(config.expert_width * config.expert_width + 3 * expert_matrix(),
                 drawn * drawn + kDrawnMatrices * drawn * config.width);
    cost.memory_bytes += RunBytes();
    if (place.device != "cpu") {
      cost.device_bytes =
          internal::MatchingsOnDevice(config.expert_width, config.width,
                                      static_cast<std::int64_t>(threads)) *
          numerics::DeviceMatchingBytes(config.expert_width, config.width);
    }
    // Pairs are shared out to threads: an assignment keeps one of them busy.
    const double solves =
        Real(units * (Count(spec.projections))) / std::min(threads, Real(units));
    return Timed(cost, work,
                 solves * kAssignmentSeconds * Real(config.expert_width) *
                     Real(config.expert_width));
  }

  // Of a normalised input: tokens that go through the model together.
  static std::int64_t LongestBlock(const spec::TokenInput& input,
                                   std::int64_t block_tokens) {
    std::int64_t longest = 0;
    for (const internal::TokenBlock& block :
         internal::CutIntoBlocks(input, block_tokens)) {
      longest = std::max(longest, block.num_tokens());
    }
    return longest;
  }

  static std::int64_t Longest(const spec::TokenInput& input) {
    return input.lengths.empty() ? 0
                                 : *std::max_element(input.lengths.begin(),
                                                     input.lengths.end());
  }

  // Bytes per token of a layer's chunk.
  std::int64_t TraceBytes(const spec::RoutingTraceSpec& spec) const {
    std::int64_t bytes = 0;
    for (absl::string_view field : spec.fields) {
      // The attention's router has as many experts, and chooses as many.
      absl::ConsumePrefix(&field, "attention_");
      if (field == "ids") {
        bytes += 8 * config.router.experts_per_token;
      } else if (field == "weights") {
        bytes += 4 * config.router.experts_per_token;
      } else if (field == "group_mask") {
        bytes += 8 * config.router.num_groups;
      } else if (field == "logits" || field == "scores" || field == "choice") {
        bytes += 4 * config.num_experts;
      } else {
        bytes += 4;
      }
    }
    return bytes;
  }

  CostEstimate operator()(const spec::RoutingTraceSpec& spec) const {
    CostEstimate cost = Forward(spec.input, spec.block_tokens, spec.layers,
                                /*all_experts=*/false);
    // Once as arrays, once as the bytes of the log.
    cost.memory_bytes += 2 * LongestBlock(spec.input, spec.block_tokens) *
                         TraceBytes(spec);
    return Timed(cost, cost.flops / kForwardShare);
  }

  CostEstimate operator()(const spec::ActivationStatisticsSpec& spec) const {
    CostEstimate cost = Forward(spec.input, spec.block_tokens, spec.layers,
                                /*all_experts=*/true);
    cost.memory_bytes += Count(spec.layers) * config.num_experts *
                         config.expert_width *
                         (kNeuronStateBytes + spec.top_tokens * kTopTokenBytes);
    // Which token chose which expert.
    cost.memory_bytes +=
        LongestBlock(spec.input, spec.block_tokens) * config.num_experts;
    return Timed(cost, cost.flops / kForwardShare);
  }

  std::int64_t AttentionWeights() const {
    const model::AttentionConfig& a = config.attention;
    const std::int64_t queries = config.num_heads * config.QueryWidth();
    const std::int64_t values = config.num_heads * config.ValueWidth();
    if (a.kind != model::AttentionKind::kLatent) {
      return config.width *
             (queries + values + 2 * config.num_kv_heads * config.head_dim);
    }
    const std::int64_t from_stream =
        (a.q_rank == 0 ? queries : a.q_rank) + a.kv_rank + a.rope_dim;
    return config.width * (from_stream + values) + a.q_rank * queries +
           a.kv_rank * (config.num_heads * a.nope_dim + values);
  }

  // Weights of one layer: all that are read, and those that one token meets.
  struct LayerWeights {
    std::int64_t read = 0;
    std::int64_t met = 0;
  };

  LayerWeights WeightsOf(std::int64_t layer, bool all_experts) const {
    const std::int64_t attention = AttentionWeights();
    if (!config.IsMoeLayer(layer)) {
      const std::int64_t weights =
          attention + 3 * config.dense_width * config.width;
      return {weights, weights};
    }
    const std::int64_t common = attention + config.num_experts * config.width +
                                3 * config.shared_width * config.width;
    const std::int64_t active =
        all_experts ? config.num_experts : config.router.experts_per_token;
    return {common + config.num_experts * 3 * expert_matrix(),
            common + active * 3 * expert_matrix()};
  }

  CostEstimate Forward(const spec::TokenInput& input, std::int64_t block_tokens,
                       const std::vector<std::int64_t>& layers,
                       bool all_experts) const {
    const std::int64_t blocks =
        Count(internal::CutIntoBlocks(input, block_tokens));
    const std::int64_t last = layers.empty() ? -1 : layers.back();
    double pairs = 0;
    for (const std::int64_t length : input.lengths) {
      pairs += Real(length) * Real(length + 1) / 2;
    }
    CostEstimate cost;
    for (std::int64_t layer = 0; layer <= last; ++layer) {
      const bool chosen =
          std::find(layers.begin(), layers.end(), layer) != layers.end();
      const LayerWeights weights = WeightsOf(layer, all_experts && chosen);
      cost.bytes_read += blocks * weights.read * bytes_per_weight;
      cost.flops += 2 * Real(Count(input.ids)) * Real(weights.met) +
                    2 * pairs *
                        Real(config.num_heads *
                             (config.QueryWidth() + config.ValueWidth()));
    }
    model::PassSize size;
    size.tokens = LongestBlock(input, block_tokens);
    size.longest_sequence = Longest(input);
    size.all_experts = all_experts;
    size.logits = false;
    size.threads = static_cast<int>(threads);
    cost.memory_bytes =
        model::Model::Estimate(checkpoint, place.device, size).workspace_bytes;
    return cost;
  }
};

// Of the bytes of all weight files, whose number may be large.
double CachedShareOf(const model::Checkpoint& checkpoint) {
  constexpr std::size_t kPages = 256;
  const std::size_t wanted = std::max<std::size_t>(
      1, kPages / std::max<std::size_t>(1, checkpoint.weight_files().size()));
  double cached = 0;
  double all = 0;
  for (const auto& file : checkpoint.weight_files()) {
    const absl::string_view bytes = file->bytes();
    cached += CachedShare(bytes, wanted) * static_cast<double>(bytes.size());
    all += static_cast<double>(bytes.size());
  }
  return all > 0 ? cached / all : 1;
}

}  // namespace

CostEstimate EstimateCost(const spec::AnalysisSpec& spec,
                          const model::Checkpoint& checkpoint,
                          const ComputePlace& place) {
  const double threads =
      place.threads > 0 ? place.threads
                        : std::max(1U, std::thread::hardware_concurrency());
  return std::visit(
      Estimator{checkpoint, checkpoint.config(), BytesPerWeight(checkpoint),
                place, threads, CachedShareOf(checkpoint)},
      spec);
}

}  // namespace moescope::analysis
