#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>

#include "server/model/rope_internal.h"
#include "server/model/torch_tensor_internal.h"

namespace moescope::model::internal {
namespace {

constexpr double kTurn = 6.283185307179586;  // 2π

double Real(std::int64_t value) { return static_cast<double>(value); }

std::vector<double> PowersOf(double theta, std::int64_t dim) {
  std::vector<double> inverse;
  for (std::int64_t i = 0; i < dim / 2; ++i) {
    inverse.push_back(1.0 / std::pow(theta, Real(2 * i) / Real(dim)));
  }
  return inverse;
}

double DynamicTheta(const RopeConfig& rope, std::int64_t dim,
                    std::int64_t length) {
  const double original = Real(rope.original_positions);
  const double stretch =
      std::max(1.0, Real(length) / original) * rope.factor - (rope.factor - 1);
  // A single pair does not turn slower: its exponent is 0.
  return dim == 2 ? rope.theta
                  : rope.theta * std::pow(stretch, Real(dim) / Real(dim - 2));
}

// The pair that turns `turns` times over the original positions.
double PairOfTurns(const RopeConfig& rope, std::int64_t dim, double turns) {
  return Real(dim) * std::log(Real(rope.original_positions) / (turns * kTurn)) /
         (2 * std::log(rope.theta));
}

void ScaleByYarn(const RopeConfig& rope, std::int64_t dim,
                 std::vector<double>& inverse) {
  double low = PairOfTurns(rope, dim, rope.beta_fast);
  double high = PairOfTurns(rope, dim, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, Real(dim - 1));
  // The publisher's guard against a ramp without length.
  const double width = high == low ? 0.001 : high - low;
  for (std::size_t i = 0; i < inverse.size(); ++i) {
    const double ramp =
        std::clamp((static_cast<double>(i) - low) / width, 0.0, 1.0);
    inverse[i] *= ramp / rope.factor + (1 - ramp);
  }
}

void ScaleByLlama3(const RopeConfig& rope, std::vector<double>& inverse) {
  const double low = rope.low_frequency_factor;
  const double high = rope.high_frequency_factor;
  for (double& frequency : inverse) {
    // How often the pair turns over the original positions.
    const double turns = Real(rope.original_positions) * frequency / kTurn;
    // First, so that equal factors, a step, divide nothing by 0. What turns
    // just `low` times at a step is kept: only longer waves are scaled.
    const double kept =
        turns >= high ? 1.0 : std::max((turns - low) / (high - low), 0.0);
    frequency *= (1 - kept) / rope.factor + kept;
  }
}

void Divide(const std::vector<double>& factors, std::vector<double>& inverse) {
  for (std::size_t i = 0; i < inverse.size(); ++i) {
    inverse[i] /= factors[i];
  }
}

// Sequences with the same key share their frequencies.
std::int64_t FrequencyKey(const RopeConfig& rope, std::int64_t length) {
  if (length <= rope.original_positions) {
    return 0;
  }
  if (rope.kind == "dynamic") {
    return length;
  }
  return rope.kind == "longrope" ? 1 : 0;
}

// Cosines and sines of positions 0, 1, … for every frequency key.
class AngleTable {
 public:
  AngleTable(const ModelConfig& config, absl::Span<const std::int64_t> lengths)
      : rope_(config.rope), dim_(config.RotatedWidth()) {
    std::map<std::int64_t, std::int64_t> longest = {{0, 1}};
    for (const std::int64_t length : lengths) {
      std::int64_t& known = longest[FrequencyKey(rope_, length)];
      known = std::max(known, length);
    }
    for (const auto& [key, length] : longest) {
      first_[key] = rows_;
      Append(length);
      rows_ += length;
    }
  }

  // Row of position 0 in a sequence of `length`.
  std::int64_t FirstRow(std::int64_t length) const {
    return first_.at(FrequencyKey(rope_, length));
  }
  at::Tensor Cosine(c10::Device device) const {
    return CopyToDevice(cosine_, device).view({rows_, dim_ / 2});
  }
  at::Tensor Sine(c10::Device device) const {
    return CopyToDevice(sine_, device).view({rows_, dim_ / 2});
  }

 private:
  void Append(std::int64_t length) {
    const RopeFrequencies frequencies = FrequenciesFor(rope_, dim_, length);
    for (std::int64_t position = 0; position < length; ++position) {
      for (const double inverse : frequencies.inverse) {
        const double angle = Real(position) * inverse;
        cosine_.push_back(
            static_cast<float>(frequencies.factor * std::cos(angle)));
        sine_.push_back(
            static_cast<float>(frequencies.factor * std::sin(angle)));
      }
    }
  }

  const RopeConfig& rope_;
  const std::int64_t dim_;
  std::int64_t rows_ = 0;
  std::map<std::int64_t, std::int64_t> first_;
  std::vector<float> cosine_;
  std::vector<float> sine_;
};

float Temperature(const AttentionConfig& attention, std::int64_t position) {
  const double step =
      std::floor(Real(position + 1) / attention.temperature_floor);
  return static_cast<float>(1 +
                            *attention.temperature_scale * std::log1p(step));
}

}  // namespace

RopeFrequencies FrequenciesFor(const RopeConfig& rope, std::int64_t dim,
                               std::int64_t length) {
  const bool dynamic = rope.kind == "dynamic";
  RopeFrequencies frequencies;
  frequencies.inverse =
      PowersOf(dynamic ? DynamicTheta(rope, dim, length) : rope.theta, dim);
  frequencies.factor = rope.attention_factor;
  if (rope.kind == "linear") {
    for (double& inverse : frequencies.inverse) {
      inverse /= rope.factor;
    }
  } else if (rope.kind == "yarn") {
    ScaleByYarn(rope, dim, frequencies.inverse);
  } else if (rope.kind == "llama3") {
    ScaleByLlama3(rope, frequencies.inverse);
  } else if (rope.kind == "longrope") {
    const bool beyond = length > rope.original_positions;
    Divide(beyond ? rope.long_factors : rope.short_factors,
           frequencies.inverse);
    frequencies.factor =
        beyond ? rope.long_attention_factor : rope.attention_factor;
  }
  return frequencies;
}

PositionTables MakePositionTables(absl::Span<const std::int64_t> lengths,
                                  std::int64_t rows, const ModelConfig& config,
                                  c10::Device device) {
  const AngleTable angles(config, lengths);
  const bool tempered = config.attention.temperature_scale.has_value();
  std::vector<std::int64_t> index(static_cast<std::size_t>(rows), 0);
  std::vector<float> temperature(tempered ? index.size() : 0, 1.0F);
  std::size_t row = 0;
  for (const std::int64_t length : lengths) {
    for (std::int64_t position = 0; position < length; ++position, ++row) {
      index[row] = angles.FirstRow(length) + position;
      if (tempered) {
        temperature[row] = Temperature(config.attention, position);
      }
    }
  }
  const at::Tensor rows_of = CopyToDevice(index, device);
  PositionTables tables;
  tables.cosine = angles.Cosine(device).index_select(0, rows_of);
  tables.sine = angles.Sine(device).index_select(0, rows_of);
  if (tempered) {
    tables.temperature = CopyToDevice(temperature, device).unsqueeze(1);
  }
  return tables;
}

absl::Status ApplyRope(const PassResources& pass, const PositionTables& tables,
                       bool interleaved, const at::Tensor& x) {
  const std::int64_t tile = pass.shape.tile_rows;
  const std::int64_t half = x.size(2) / 2;
  return pass.Parallel(x.size(0) / tile, [&](std::int64_t t) {
    const at::Tensor heads = x.narrow(0, t * tile, tile);
    const at::Tensor cosine =
        tables.cosine.narrow(0, t * tile, tile).unsqueeze(1);
    const at::Tensor sine = tables.sine.narrow(0, t * tile, tile).unsqueeze(1);
    const at::Tensor first = interleaved ? heads.slice(2, 0, 2 * half, 2)
                                         : heads.narrow(2, 0, half);
    const at::Tensor second = interleaved ? heads.slice(2, 1, 2 * half, 2)
                                          : heads.narrow(2, half, half);
    const at::Tensor a = first.clone();
    const at::Tensor b = second.clone();
    first.copy_(a * cosine - b * sine);
    second.copy_(b * cosine + a * sine);
    return absl::OkStatus();
  });
}

}  // namespace moescope::model::internal
