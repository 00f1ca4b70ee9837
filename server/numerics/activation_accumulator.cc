#include "moescope/numerics/activation_accumulator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "server/numerics/activation_kernels_internal.h"
#include "server/numerics/activation_state_internal.h"

namespace moescope::numerics {
namespace {

using internal::ActivationWork;

absl::Status CheckOptions(const ActivationOptions& options) {
  if (options.num_experts < 1 || options.num_neurons < 1) {
    return InvalidField(options.num_experts < 1 ? "num_experts" : "num_neurons",
                        "is below 1");
  }
  if (options.top_tokens < 0) {
    return InvalidField("top_tokens", "is negative");
  }
  if (options.thresholds.empty()) {
    return InvalidField("thresholds", "is empty, at least 1 is needed");
  }
  for (std::size_t i = 0; i < options.thresholds.size(); ++i) {
    const double threshold = options.thresholds[i];
    if (!std::isfinite(threshold) || threshold < 0) {
      return InvalidField(absl::StrCat("thresholds[", i, "]"),
                          absl::StrCat(threshold, " is no number from 0 on"));
    }
  }
  const std::vector<double>& edges = options.histogram_edges;
  for (std::size_t i = 0; i < edges.size(); ++i) {
    if (!std::isfinite(edges[i]) || (i > 0 && edges[i] <= edges[i - 1])) {
      return InvalidField(absl::StrCat("histogram_edges[", i, "]"),
                          absl::StrCat(edges[i], " does not ascend"));
    }
  }
  return absl::OkStatus();
}

bool SameOptions(const ActivationOptions& a, const ActivationOptions& b) {
  return a.num_experts == b.num_experts && a.num_neurons == b.num_neurons &&
         a.thresholds == b.thresholds &&
         a.histogram_edges == b.histogram_edges &&
         a.top_tokens == b.top_tokens;
}

absl::Status CheckBlock(const ActivationBlock& block,
                        const ActivationOptions& options) {
  if (block.expert < 0 || block.expert >= options.num_experts) {
    return FieldError(absl::StatusCode::kOutOfRange, "block.expert",
                      absl::StrCat(block.expert, " is outside [0, ",
                                   options.num_experts - 1, "]"));
  }
  if (block.rows < 0 ||
      static_cast<std::int64_t>(block.routed.size()) != block.rows) {
    return InvalidField("block.routed",
                        absl::StrCat("has ", block.routed.size(),
                                     " entries for ", block.rows, " rows"));
  }
  if (block.row_stride < options.num_neurons) {
    return InvalidField("block.row_stride",
                        absl::StrCat(block.row_stride, " is below ",
                                     options.num_neurons));
  }
  if (block.values == nullptr && block.rows > 0) {
    return InvalidField("block.values", "is missing");
  }
  return absl::OkStatus();
}

// Puts (value, token) into a list of `n`, best first, when it belongs there.
void Insert(float value, std::int64_t token, std::int64_t n, float* values,
            std::int64_t* tokens) {
  std::int64_t place = n;
  while (place > 0 && (value > values[place - 1] ||
                       (value == values[place - 1] &&
                        token < tokens[place - 1]))) {
    --place;
  }
  if (place == n) {
    return;
  }
  std::copy_backward(values + place, values + n - 1, values + n);
  std::copy_backward(tokens + place, tokens + n - 1, tokens + n);
  values[place] = value;
  tokens[place] = token;
}

void AddHistogram(const ActivationBlock& block, std::int64_t width,
                  const std::vector<double>& edges, std::int64_t* counts) {
  const auto num_edges = static_cast<std::int64_t>(edges.size());
  const double first = edges.front();
  const double span = edges.back() - first;
  const double scale =
      span > 0 ? static_cast<double>(num_edges - 1) / span : 0.0;
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const float* const row = block.values + r * block.row_stride;
    for (std::int64_t f = 0; f < width; ++f) {
      const auto x = static_cast<double>(row[f]);
      if (!std::isfinite(x)) {
        continue;
      }
      // Right at once for equal steps; the edges themselves decide.
      const double guess = std::clamp((x - first) * scale, -1.0,
                                      static_cast<double>(num_edges - 1));
      auto bin = static_cast<std::int64_t>(guess + 1);
      while (bin > 0 && x < edges[static_cast<std::size_t>(bin - 1)]) {
        --bin;
      }
      while (bin < num_edges && x >= edges[static_cast<std::size_t>(bin)]) {
        ++bin;
      }
      ++counts[bin];
    }
  }
}

void AddTop(const ActivationBlock& block, std::int64_t width, std::int64_t n,
            float* values, std::int64_t* tokens) {
  for (std::int64_t r = 0; r < block.rows; ++r) {
    const float* const row = block.values + r * block.row_stride;
    for (std::int64_t f = 0; f < width; ++f) {
      if (row[f] >= values[f * n + n - 1] && std::isfinite(row[f])) {
        Insert(row[f], block.first_token + r, n, values + f * n,
               tokens + f * n);
      }
    }
  }
}

double Ratio(double numerator, std::int64_t denominator) {
  return denominator == 0 ? 0.0
                          : numerator / static_cast<double>(denominator);
}

}  // namespace

ActivationAccumulator::ActivationAccumulator(ActivationOptions options)
    : state_(std::make_unique<State>(std::move(options))) {}

ActivationAccumulator::~ActivationAccumulator() = default;

absl::StatusOr<std::unique_ptr<ActivationAccumulator>>
ActivationAccumulator::Create(ActivationOptions options) {
  MOESCOPE_RETURN_IF_ERROR(CheckOptions(options));
  return std::unique_ptr<ActivationAccumulator>(
      new ActivationAccumulator(std::move(options)));
}

const ActivationOptions& ActivationAccumulator::options() const {
  return state_->options;
}

absl::Status ActivationAccumulator::Add(const ActivationBlock& block) {
  State& s = *state_;
  const ActivationOptions& options = s.options;
  MOESCOPE_RETURN_IF_ERROR(CheckBlock(block, options));
  const auto e = static_cast<std::size_t>(block.expert);
  const std::int64_t first = block.expert * options.num_neurons;
  const auto h = static_cast<std::int64_t>(options.thresholds.size());
  ActivationWork work;
  work.values = block.values;
  work.rows = block.rows;
  work.row_stride = block.row_stride;
  work.width = options.num_neurons;
  work.routed = block.routed.data();
  work.thresholds = options.thresholds;
  for (std::size_t p = 0; p < internal::kNumPlanes; ++p) {
    work.planes[p] = s.planes[p].data() + first;
  }
  work.over = s.over.data() + block.expert * h;
  work.over_routed = s.over_routed.data() + block.expert * h;
  internal::AccumulateActivations(work);
  s.near_threshold[e] += work.near_threshold;
  s.nonfinite[e] += work.nonfinite;
  s.tokens[e] += block.rows;
  s.routed_tokens[e] +=
      block.rows - std::count(block.routed.begin(), block.routed.end(), 0);
  if (s.bins() > 0) {
    AddHistogram(block, options.num_neurons, options.histogram_edges,
                 s.histogram.data() + block.expert * s.bins());
  }
  if (options.top_tokens > 0) {
    AddTop(block, options.num_neurons, options.top_tokens,
           s.top_values.data() + first * options.top_tokens,
           s.top_tokens.data() + first * options.top_tokens);
  }
  return absl::OkStatus();
}

absl::Status ActivationAccumulator::Merge(const ActivationAccumulator& later) {
  State& s = *state_;
  const State& other = *later.state_;
  if (!SameOptions(s.options, other.options)) {
    return InvalidField("later", "was made with other options");
  }
  for (std::size_t p = 0; p < internal::kNumPlanes; ++p) {
    const bool is_max = p % internal::kRouted == internal::kMax;
    for (std::size_t i = 0; i < s.planes[p].size(); ++i) {
      const double own = s.planes[p][i];
      const double more = other.planes[p][i];
      s.planes[p][i] = is_max ? std::max(own, more) : own + more;
    }
  }
  using Counts = std::vector<std::int64_t> State::*;
  for (const Counts counts :
       {&State::tokens, &State::routed_tokens, &State::over,
        &State::over_routed, &State::near_threshold, &State::nonfinite,
        &State::histogram}) {
    for (std::size_t i = 0; i < (s.*counts).size(); ++i) {
      (s.*counts)[i] += (other.*counts)[i];
    }
  }
  const auto n = static_cast<std::size_t>(s.options.top_tokens);
  for (std::size_t i = 0; i < other.top_tokens.size(); ++i) {
    if (other.top_tokens[i] >= 0) {
      const std::size_t list = i / n * n;
      Insert(other.top_values[i], other.top_tokens[i], s.options.top_tokens,
             s.top_values.data() + list, s.top_tokens.data() + list);
    }
  }
  return absl::OkStatus();
}

namespace {

using Planes = std::array<std::vector<double>, internal::kNumPlanes>;

NeuronMoments MomentsOf(const Planes& planes, std::size_t first,
                        const std::vector<std::int64_t>& rows,
                        std::size_t width) {
  NeuronMoments moments;
  const std::size_t size = planes[0].size();
  for (std::size_t i = 0; i < size; ++i) {
    const std::int64_t count = rows[i / width];
    const auto mean = [&](internal::Plane plane) {
      return Ratio(planes[first + plane][i], count);
    };
    moments.frequency.push_back(mean(internal::kOver));
    moments.mean.push_back(mean(internal::kSum));
    moments.mean_abs.push_back(mean(internal::kSumAbs));
    moments.second_moment.push_back(mean(internal::kSquares));
    // Squares of fp32 numbers never overflow fp64, so a sum of them that is
    // not finite has a value that is not.
    const bool finite =
        std::isfinite(planes[first + internal::kSquares][i]);
    const double max = finite ? planes[first + internal::kMax][i]
                              : std::numeric_limits<double>::quiet_NaN();
    moments.max.push_back(count == 0 ? 0.0 : max);
  }
  return moments;
}

// Shares of counts [E, H] among rows · width values, per expert and in all.
void Shares(const std::vector<std::int64_t>& over,
            const std::vector<std::int64_t>& rows, std::int64_t width,
            std::vector<double>& total, std::vector<double>& per_expert) {
  const std::size_t h = over.size() / rows.size();
  std::vector<std::int64_t> sums(h, 0);
  std::int64_t all_rows = 0;
  for (std::size_t e = 0; e < rows.size(); ++e) {
    all_rows += rows[e];
    for (std::size_t i = 0; i < h; ++i) {
      sums[i] += over[e * h + i];
      per_expert.push_back(
          Ratio(static_cast<double>(over[e * h + i]), rows[e] * width));
    }
  }
  for (const std::int64_t sum : sums) {
    total.push_back(Ratio(static_cast<double>(sum), all_rows * width));
  }
}

}  // namespace

ActivationStatistics ActivationAccumulator::Finish() const {
  const State& s = *state_;
  const auto width = static_cast<std::size_t>(s.options.num_neurons);
  ActivationStatistics out;
  out.tokens = s.tokens;
  out.routed_tokens = s.routed_tokens;
  Shares(s.over, s.tokens, s.options.num_neurons, out.fraction,
         out.expert_fraction);
  Shares(s.over_routed, s.routed_tokens, s.options.num_neurons,
         out.fraction_routed, out.expert_fraction_routed);
  out.neuron = MomentsOf(s.planes, 0, s.tokens, width);
  out.neuron_routed =
      MomentsOf(s.planes, internal::kRouted, s.routed_tokens, width);
  out.histogram = s.histogram;
  out.nonfinite = s.nonfinite;
  for (const std::int64_t near : s.near_threshold) {
    out.near_threshold += near;
  }
  out.num_top =
      std::min(s.options.top_tokens,
               *std::max_element(s.tokens.begin(), s.tokens.end()));
  for (std::size_t i = 0; i < s.top_tokens.size(); ++i) {
    const auto place = static_cast<std::int64_t>(
        i % static_cast<std::size_t>(s.options.top_tokens));
    if (place < out.num_top) {
      const bool taken = s.top_tokens[i] >= 0;
      out.top_values.push_back(
          taken ? s.top_values[i] : std::numeric_limits<float>::quiet_NaN());
      out.top_tokens.push_back(s.top_tokens[i]);
    }
  }
  return out;
}

std::string ActivationAccumulator::Serialize() const {
  return state_->Serialize();
}

absl::StatusOr<std::unique_ptr<ActivationAccumulator>>
ActivationAccumulator::Deserialize(ActivationOptions options,
                                   absl::string_view bytes) {
  MOESCOPE_ASSIGN_OR_RETURN(std::unique_ptr<ActivationAccumulator> made,
                            Create(std::move(options)));
  MOESCOPE_RETURN_IF_ERROR(made->state_->Load(bytes));
  return made;
}

}  // namespace moescope::numerics
