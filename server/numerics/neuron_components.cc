// Principal components of neurons: one product on raw weights, standardised
// afterwards; its leading eigenvectors; one more reading for the scores.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/catch_exceptions.h"
#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/principal_components.h"
#include "moescope/numerics/widen_rows.h"
#include "server/numerics/bfloat16_panels_internal.h"
#include "server/numerics/principal_components_internal.h"
#include "server/numerics/range_scale_internal.h"
#include "server/numerics/shared_tasks_internal.h"
#include "server/numerics/symmetric_eigen_internal.h"

namespace moescope::numerics {
namespace {

// Neurons whose products are summed in fp32; results are the same for any
// number of threads because these sizes do not depend on it.
constexpr std::int64_t kPanel = 2048;
constexpr std::int64_t kTile = 256;
// Part of the product that is summed over a panel before it is added.
constexpr std::int64_t kPartRows = 64;
constexpr std::int64_t kPartCols = 192;
// What widening asks for where columns lie together.
constexpr std::int64_t kRowGroup = 64;
// Means above so many deviations cost digits when subtracted after the
// products: 64 times the rounding error of a square.
constexpr double kLargeMean = 8;
// Coordinates whose largest magnitude is between 2^-40 and 2^40 keep their
// squares, and sums of these over a panel, in the range of fp32.
constexpr int kPlainExponent = 40;

// Neurons of one matrix that are worked on together.
struct PanelRange {
  std::size_t matrix = 0;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

class NeuronPca {
 public:
  NeuronPca(absl::Span<const MatrixView> matrices, NeuronAxis axis,
            std::int64_t components, ThreadPool& pool,
            const RunContext& context)
      : components_(components), pool_(pool), context_(context) {
    for (const MatrixView& matrix : matrices) {
      matrices_.push_back(axis == NeuronAxis::kRows ? matrix
                                                    : Transposed(matrix));
      const std::int64_t neurons = matrices_.back().rows;
      for (std::int64_t first = 0; first < neurons; first += kPanel) {
        panels_.push_back({matrices_.size() - 1, first,
                           std::min(kPanel, neurons - first)});
        longest_ = std::max(longest_, panels_.back().count);
      }
      points_ += neurons;
    }
    depth_ = matrices_[0].cols;
  }

  absl::StatusOr<NeuronComponents> Compute() {
    const c10::NoGradGuard no_grad;
    buffer_ = at::empty({longest_, depth_}, at::kFloat);
    shift_.assign(At(depth_), 0.0F);
    exponents_.assign(At(depth_), 0);
    const std::int64_t shares = std::min(
        {points_, depth_, std::max(components_ + 1, kSpectrumLength)});
    MOESCOPE_RETURN_IF_ERROR(Accumulate());
    NeuronComponents result;
    result.nonfinite.assign(matrices_.size(), 0);
    bool has_nonfinite = false;
    if (!std::isfinite(product_.diagonal().sum().item<double>())) {
      MOESCOPE_ASSIGN_OR_RETURN(has_nonfinite,
                                FindNonfinite(result.nonfinite));
    }
    if (has_nonfinite) {
      result.components = internal::NotANumber(points_, components_, shares);
      result.residual = std::numeric_limits<double>::quiet_NaN();
      return result;
    }
    if (FindScale()) {
      MOESCOPE_RETURN_IF_ERROR(Accumulate());
    }
    if (MeansAreLarge()) {
      for (std::int64_t d = 0; d < depth_; ++d) {
        shift_[At(d)] = static_cast<float>(Mean(d));
      }
      shifted_ = true;
      MOESCOPE_RETURN_IF_ERROR(Accumulate());
    }
    MOESCOPE_RETURN_IF_ERROR(Standardise());
    MOESCOPE_ASSIGN_OR_RETURN(
        const internal::LeadingPairs pairs,
        internal::LargestPairs(product_, std::max(shares, components_),
                               components_, pool_, context_));
    result.residual = pairs.residual;
    Explain(pairs, shares, result.components);
    MOESCOPE_RETURN_IF_ERROR(Score(pairs.vectors, result.components));
    internal::OrientComponents(components_, result.components);
    return result;
  }

 private:
  static std::size_t At(std::int64_t d) { return static_cast<std::size_t>(d); }
  double Mean(std::int64_t d) const {
    return sums_[At(d)] / static_cast<double>(points_);
  }

  // Squares about the mean.
  double Spread(std::int64_t d) const {
    const double mean = Mean(d);
    const double squares = product_.data_ptr<double>()[d * depth_ + d];
    return std::max(0.0, squares - static_cast<double>(points_) * mean * mean);
  }

  bool Constant(std::int64_t d) const { return low_[At(d)] == high_[At(d)]; }

  // Whether a weight is no number; else squares have left the range of fp32.
  absl::StatusOr<bool> FindNonfinite(std::vector<std::int64_t>& counts) const {
    for (std::size_t m = 0; m < matrices_.size(); ++m) {
      MOESCOPE_ASSIGN_OR_RETURN(
          counts[m], CountNonfinite(matrices_[m], pool_, context_));
    }
    return std::any_of(counts.begin(), counts.end(),
                       [](std::int64_t count) { return count > 0; });
  }

  // Whether coordinates must be scaled: standardised ones are the same whatever
  // their scale, and powers of two change no digit.
  bool FindScale() {
    for (std::int64_t d = 0; d < depth_; ++d) {
      const std::array<float, 2> ends = {low_[At(d)], high_[At(d)]};
      const int exponent = internal::RangeExponent(ends);
      if (std::abs(exponent) > kPlainExponent) {
        exponents_[At(d)] = exponent;
        scaled_ = true;
      }
    }
    return scaled_;
  }

  bool MeansAreLarge() const {
    for (std::int64_t d = 0; d < depth_; ++d) {
      const double mean = Mean(d);
      if (!Constant(d) && static_cast<double>(points_) * mean * mean >
                              kLargeMean * kLargeMean * Spread(d)) {
        return true;
      }
    }
    return false;
  }

  // Of neurons one after another.
  void ScaleAndShift(float* values, std::int64_t count) const {
    for (std::int64_t i = 0; i < count; ++i, values += depth_) {
      for (std::int64_t d = 0; scaled_ && d < depth_; ++d) {
        values[d] = std::ldexp(values[d], -exponents_[At(d)]);
      }
      for (std::int64_t d = 0; shifted_ && d < depth_; ++d) {
        values[d] -= shift_[At(d)];
      }
    }
  }

  // The panel in fp32, scaled and shifted. [count, D]
  absl::StatusOr<at::Tensor> Load(const PanelRange& panel) {
    float* const out = buffer_.data_ptr<float>();
    const std::int64_t groups = (panel.count + kRowGroup - 1) / kRowGroup;
    MOESCOPE_RETURN_IF_ERROR(pool_.ParallelFor(groups, [&](std::int64_t g) {
      absl::Status wanted = context_.Check();
      if (!wanted.ok()) {
        return wanted;
      }
      const std::int64_t first = g * kRowGroup;
      const std::int64_t rows = std::min(kRowGroup, panel.count - first);
      float* const values = out + first * depth_;
      WidenRows(matrices_[panel.matrix], panel.first + first, rows, values);
      ScaleAndShift(values, rows);
      return absl::OkStatus();
    }));
    return buffer_.narrow(0, 0, panel.count);
  }

  // Sums and extremes of coordinates [begin, end) over the panel's neurons, in
  // the order of memory.
  void AddStatistics(const at::Tensor& panel, std::int64_t begin,
                     std::int64_t end) {
    const float* const values = panel.data_ptr<float>();
    for (std::int64_t i = 0; i < panel.size(0); ++i) {
      for (std::int64_t d = begin; d < end; ++d) {
        const float x = values[i * depth_ + d];
        sums_[At(d)] += static_cast<double>(x);
        low_[At(d)] = std::min(low_[At(d)], x);
        high_[At(d)] = std::max(high_[At(d)], x);
      }
    }
  }

  void AddTile(const at::Tensor& panel, std::int64_t i, std::int64_t j) {
    const std::int64_t rows = std::min(kTile, depth_ - i);
    const std::int64_t cols = std::min(kTile, depth_ - j);
    const at::Tensor left = panel.narrow(1, i, rows);
    const at::Tensor right = panel.narrow(1, j, cols);
    product_.narrow(0, i, rows)
        .narrow(1, j, cols)
        .add_(at::mm(left.t(), right));
    if (i == j) {
      AddStatistics(panel, i, i + rows);
    }
  }

  // One product only, however often it is formed.
  absl::Status ClearProduct() {
    if (!product_.defined()) {
      product_ = at::empty({depth_, depth_}, at::kDouble);
    }
    const std::int64_t parts = (depth_ + kTile - 1) / kTile;
    return Tiles(parts, [&](std::int64_t part) {
      const std::int64_t first = part * kTile;
      product_.narrow(0, first, std::min(kTile, depth_ - first)).zero_();
    });
  }

  // product_ = Σ x xᵀ (upper tiles), sums_, low_ and high_ of all neurons.
  absl::Status Accumulate() {
    MOESCOPE_RETURN_IF_ERROR(ClearProduct());
    sums_.assign(At(depth_), 0.0);
    low_.assign(At(depth_), HUGE_VALF);
    high_.assign(At(depth_), -HUGE_VALF);
    const bool is_packed =
        internal::UseBFloat16Panels() && !shifted_ && !scaled_ &&
        std::all_of(matrices_.begin(), matrices_.end(),
                    internal::BFloat16Panels::Fits);
    return is_packed ? AccumulatePacked() : AccumulateWidened();
  }

  // Coordinates are lines, neurons their depth.
  absl::Status AccumulatePacked() {
    std::vector<internal::LineRange> rows;
    std::vector<internal::LineRange> cols;
    for (std::int64_t i = 0; i < depth_; i += kPartRows) {
      for (std::int64_t j = 0; j < depth_; j += kPartCols) {
        if (j + kPartCols > i) {
          rows.push_back({i, std::min(kPartRows, depth_ - i)});
          cols.push_back({j, std::min(kPartCols, depth_ - j)});
        }
      }
    }
    for (const PanelRange& range : panels_) {
      MOESCOPE_RETURN_IF_ERROR(Pack(range));
      MOESCOPE_RETURN_IF_ERROR(
          Tiles(static_cast<std::int64_t>(rows.size()),
                [&](std::int64_t t) { AddPart(rows[At(t)], cols[At(t)]); }));
    }
    return absl::OkStatus();
  }

  absl::Status Pack(const PanelRange& range) {
    packed_.Resize(depth_, range.count);
    const MatrixView coordinates = Transposed(matrices_[range.matrix]);
    return Tiles(packed_.panels(), [&](std::int64_t panel) {
      packed_.Pack(coordinates, {0, depth_, range.first, range.count}, panel);
      const internal::PanelStatistics statistics = packed_.StatisticsOf(panel);
      const std::int64_t first = panel * internal::kPanelLines;
      const std::int64_t lines =
          std::min(internal::kPanelLines, depth_ - first);
      for (std::int64_t i = 0; i < lines; ++i) {
        const std::size_t d = At(first + i);
        sums_[d] += statistics.sums[i];
        low_[d] = std::min(low_[d], statistics.low[i]);
        high_[d] = std::max(high_[d], statistics.high[i]);
      }
    });
  }

  void AddPart(internal::LineRange rows, internal::LineRange cols) {
    std::vector<double> products(At(kPartRows * kPartCols));
    internal::MultiplyPanels(packed_, rows, packed_, cols, /*upper=*/true,
                             products.data(), kPartCols);
    for (std::int64_t i = 0; i < rows.count; ++i) {
      double* const out =
          product_.data_ptr<double>() + (rows.first + i) * depth_ + cols.first;
      const double* const from = products.data() + i * kPartCols;
      for (std::int64_t j = 0; j < cols.count; ++j) {
        out[j] += from[j];
      }
    }
  }

  absl::Status AccumulateWidened() {
    const std::vector<std::pair<std::int64_t, std::int64_t>> tiles =
        UpperTiles();
    for (const PanelRange& range : panels_) {
      MOESCOPE_ASSIGN_OR_RETURN(const at::Tensor panel, Load(range));
      MOESCOPE_RETURN_IF_ERROR(Tiles(
          static_cast<std::int64_t>(tiles.size()), [&](std::int64_t t) {
            AddTile(panel, tiles[At(t)].first, tiles[At(t)].second);
          }));
    }
    return absl::OkStatus();
  }

  template <class Body>
  absl::Status Tiles(std::int64_t n, const Body& body) {
    return internal::RunTasks(pool_, context_, n, body);
  }

  // product_ becomes the correlation matrix, both halves.
  absl::Status Standardise() {
    inverse_.assign(At(depth_), 0.0);
    for (std::int64_t d = 0; d < depth_; ++d) {
      const double spread = Spread(d);
      inverse_[At(d)] =
          Constant(d) || spread <= 0
              ? 0
              : std::sqrt(static_cast<double>(points_ - 1) / spread);
    }
    const std::vector<std::pair<std::int64_t, std::int64_t>> tiles =
        UpperTiles();
    return Tiles(static_cast<std::int64_t>(tiles.size()), [&](std::int64_t t) {
      StandardiseTile(tiles[At(t)].first, tiles[At(t)].second);
    });
  }

  // And what mirrors the tile at [first_row, first_col].
  void StandardiseTile(std::int64_t first_row, std::int64_t first_col) {
    double* const c = product_.data_ptr<double>();
    const double n = static_cast<double>(points_);
    for (std::int64_t i = first_row; i < std::min(depth_, first_row + kTile);
         ++i) {
      for (std::int64_t j = std::max(i, first_col);
           j < std::min(depth_, first_col + kTile); ++j) {
        const double value = (c[i * depth_ + j] - n * Mean(i) * Mean(j)) *
                             inverse_[At(i)] * inverse_[At(j)] / (n - 1);
        c[i * depth_ + j] = value;
        c[j * depth_ + i] = value;
      }
    }
  }

  // Rows and columns at which the tiles on and above the diagonal begin.
  std::vector<std::pair<std::int64_t, std::int64_t>> UpperTiles() const {
    std::vector<std::pair<std::int64_t, std::int64_t>> tiles;
    for (std::int64_t i = 0; i < depth_; i += kTile) {
      for (std::int64_t j = i; j < depth_; j += kTile) {
        tiles.emplace_back(i, j);
      }
    }
    return tiles;
  }

  void Explain(const internal::LeadingPairs& pairs, std::int64_t shares,
               PrincipalComponents& result) const {
    const double trace = product_.diagonal().sum().item<double>();
    const auto share = [&](std::int64_t i) {
      const double value = std::max(0.0, pairs.values[i].item<double>());
      return trace > 0 ? value / trace : 0;
    };
    for (std::int64_t i = 0; i < components_; ++i) {
      result.explained_ratio.push_back(share(i));
    }
    for (std::int64_t i = 0; i < shares; ++i) {
      result.spectrum.push_back(share(i));
    }
  }

  // scores = (x − mean) / sd · V, the constant part taken out.
  absl::Status Score(const at::Tensor& vectors, PrincipalComponents& result) {
    const at::Tensor scale = at::empty({depth_, 1}, at::kDouble);
    std::copy(inverse_.begin(), inverse_.end(), scale.data_ptr<double>());
    const at::Tensor weights =
        (vectors.narrow(1, 0, components_) * scale).contiguous();
    std::vector<double> offsets(At(components_), 0.0);
    for (std::int64_t d = 0; d < depth_; ++d) {
      for (std::int64_t c = 0; c < components_; ++c) {
        offsets[At(c)] +=
            Mean(d) * weights.data_ptr<double>()[d * components_ + c];
      }
    }
    const at::Tensor narrow = weights.to(at::kFloat).contiguous();
    result.scores.resize(At(points_ * components_));
    std::int64_t done = 0;
    for (const PanelRange& range : panels_) {
      MOESCOPE_ASSIGN_OR_RETURN(const at::Tensor panel, Load(range));
      const std::int64_t tiles = (range.count + kTile - 1) / kTile;
      MOESCOPE_RETURN_IF_ERROR(Tiles(tiles, [&](std::int64_t t) {
        const std::int64_t count = std::min(kTile, range.count - t * kTile);
        const at::Tensor scores =
            at::mm(panel.narrow(0, t * kTile, count), narrow).contiguous();
        const float* const values = scores.data_ptr<float>();
        double* const out =
            result.scores.data() + (done + t * kTile) * components_;
        for (std::int64_t i = 0; i < count * components_; ++i) {
          out[i] = static_cast<double>(values[i]) - offsets[At(i % components_)];
        }
      }));
      done += range.count;
    }
    return absl::OkStatus();
  }

  std::vector<MatrixView> matrices_;  // neurons are rows
  std::int64_t depth_ = 0;
  bool scaled_ = false;
  bool shifted_ = false;
  const std::int64_t components_;
  ThreadPool& pool_;
  const RunContext& context_;
  std::int64_t points_ = 0;
  std::int64_t longest_ = 0;
  std::vector<PanelRange> panels_;
  internal::BFloat16Panels packed_;
  at::Tensor buffer_;
  at::Tensor product_;           // [D, D] fp64
  std::vector<int> exponents_;   // [D], of the powers of two taken out
  std::vector<float> shift_;     // [D], of scaled values
  std::vector<double> sums_;     // [D], of scaled and shifted values
  std::vector<float> low_;       // [D]
  std::vector<float> high_;      // [D]
  std::vector<double> inverse_;  // [D]
};

absl::Status CheckArguments(absl::Span<const MatrixView> matrices,
                            NeuronAxis axis, std::int64_t components) {
  if (matrices.empty()) {
    return InvalidField("matrices", "is empty, at least 1 is needed");
  }
  const auto depth = [axis](const MatrixView& view) {
    return axis == NeuronAxis::kRows ? view.cols : view.rows;
  };
  std::int64_t neurons = 0;
  for (const MatrixView& view : matrices) {
    MOESCOPE_RETURN_IF_ERROR(CheckView("matrices", view));
    if (depth(view) != depth(matrices[0])) {
      return InvalidField("matrices",
                          absl::StrCat("have neurons of lengths ",
                                       depth(matrices[0]), " and ",
                                       depth(view)));
    }
    neurons += axis == NeuronAxis::kRows ? view.rows : view.cols;
  }
  if (neurons < 2) {
    return InvalidField("matrices", absl::StrCat("have ", neurons,
                                                 " neurons, 2 are needed"));
  }
  if (components < 1 || components > depth(matrices[0])) {
    return InvalidField("components",
                        absl::StrCat(components, " is outside [1, ",
                                     depth(matrices[0]), "]"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NeuronComponents> ComputeNeuronComponents(
    absl::Span<const MatrixView> matrices, NeuronAxis axis,
    std::int64_t components, ThreadPool& pool, const RunContext& context) {
  MOESCOPE_RETURN_IF_ERROR(CheckArguments(matrices, axis, components));
  MOESCOPE_RETURN_IF_ERROR(context.Check());
  return CatchExceptionsOf<NeuronComponents>([&] {
    return NeuronPca(matrices, axis, components, pool, context).Compute();
  });
}

}  // namespace moescope::numerics
