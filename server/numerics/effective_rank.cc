#include "moescope/numerics/effective_rank.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "moescope/base/catch_exceptions.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/widen_rows.h"
#include "server/numerics/bfloat16_panels_internal.h"
#include "server/numerics/range_scale_internal.h"
#include "server/numerics/shared_tasks_internal.h"
#include "server/numerics/symmetric_eigenvalues_internal.h"

namespace moescope::numerics {
namespace {

// Length of a sum that is left to fp32.
constexpr std::int64_t kSumLength = 512;
// Lines of the longer side that are widened at once: a few sums.
constexpr std::int64_t kPanel = 4 * kSumLength;
// What widening asks for where columns lie together.
constexpr std::int64_t kRowGroup = 64;

using internal::RunTasks;
using internal::SymmetricTiles;

// The Gram matrix of the shorter side.
class ShortGram {
 public:
  ShortGram(const MatrixView& matrix, ThreadPool& pool,
            const RunContext& context)
      : view_(matrix.rows >= matrix.cols ? matrix : Transposed(matrix)),
        pool_(pool),
        context_(context) {}

  // Of the matrix times 2^-exponent.
  absl::StatusOr<SymmetricTiles> Compute(int exponent) {
    const bool is_packed = exponent == 0 && internal::UseBFloat16Panels() &&
                           internal::BFloat16Panels::Fits(view_);
    SymmetricTiles gram(view_.cols);
    for (std::int64_t first = 0; first < view_.rows; first += kPanel) {
      const std::int64_t count = std::min(kPanel, view_.rows - first);
      MOESCOPE_RETURN_IF_ERROR(is_packed ? Pack(first, count)
                                         : Widen(first, count, exponent));
      MOESCOPE_RETURN_IF_ERROR(RunTasks(
          pool_, context_, gram.num_tiles(), [&](std::int64_t t) {
            const auto [row, col] = SymmetricTiles::IndexOf(t);
            const at::Tensor tile = gram.Tile(row, col);
            if (first == 0) {
              tile.zero_();
            }
            is_packed ? AddPackedProducts(row, col, tile)
                      : AddProducts(row, col, count, tile);
          }));
    }
    return gram;
  }

  // Of the largest finite magnitude, 0 where all are 0.
  absl::StatusOr<int> Exponent() {
    float largest = 0;
    for (std::int64_t first = 0; first < view_.rows; first += kPanel) {
      const std::int64_t count = std::min(kPanel, view_.rows - first);
      MOESCOPE_RETURN_IF_ERROR(Widen(first, count, 0));
      for (std::int64_t i = 0; i < count; ++i) {
        largest = std::max(
            largest, internal::LargestFinite(
                         {panel_.data_ptr<float>() + i * stride(),
                          static_cast<std::size_t>(view_.cols)}));
      }
    }
    return internal::RangeExponent({&largest, 1});
  }

 private:
  // Between rows of panel_: not a power of two, of which rows would share the
  // same places in every cache.
  std::int64_t stride() const {
    constexpr std::int64_t kLine = 16;
    return (view_.cols + kLine - 1) / kLine * kLine + kLine;
  }

  // Rows first … of the longer side to panel_, times 2^-exponent.
  absl::Status Widen(std::int64_t first, std::int64_t count, int exponent) {
    if (!panel_.defined()) {
      panel_ =
          at::empty({std::min(kPanel, view_.rows), stride()}, at::kFloat);
    }
    float* const out = panel_.data_ptr<float>();
    const std::int64_t groups = (count + kRowGroup - 1) / kRowGroup;
    return RunTasks(pool_, context_, groups, [&](std::int64_t group) {
      const std::int64_t begin = group * kRowGroup;
      const std::int64_t rows = std::min(kRowGroup, count - begin);
      float* const values = out + begin * stride();
      WidenBlock(view_, {first + begin, rows, 0, view_.cols}, values, stride());
      for (std::int64_t i = 0; exponent != 0 && i < rows; ++i) {
        float* const row = values + i * stride();
        std::transform(row, row + view_.cols, row, [exponent](float v) {
          return std::ldexp(v, -exponent);
        });
      }
    });
  }

  // Adds products of the panel's columns to a tile.
  void AddProducts(std::int64_t row, std::int64_t col, std::int64_t count,
                   const at::Tensor& tile) const {
    const at::Tensor left =
        panel_.narrow(1, row * SymmetricTiles::kTile, tile.size(0)).t();
    const at::Tensor right =
        panel_.narrow(1, col * SymmetricTiles::kTile, tile.size(1));
    for (std::int64_t t = 0; t < count; t += kSumLength) {
      const std::int64_t length = std::min(kSumLength, count - t);
      tile.add_(
          at::mm(left.narrow(1, t, length), right.narrow(0, t, length)));
    }
  }

  // The same rows to packed_, its lines the columns.
  absl::Status Pack(std::int64_t first, std::int64_t count) {
    packed_.Resize(view_.cols, count);
    return RunTasks(
        pool_, context_, packed_.panels(), [&](std::int64_t panel) {
          packed_.Pack(Transposed(view_), {0, view_.cols, first, count}, panel);
        });
  }

  void AddPackedProducts(std::int64_t row, std::int64_t col,
                         const at::Tensor& tile) const {
    constexpr std::int64_t kTile = SymmetricTiles::kTile;
    static_assert(kTile % internal::kRightLines == 0);
    const at::Tensor sums = at::empty({kTile, kTile}, at::kDouble);
    internal::MultiplyPanels(packed_, {row * kTile, tile.size(0)}, packed_,
                             {col * kTile, tile.size(1)}, /*upper=*/false,
                             sums.data_ptr<double>(), kTile);
    tile.add_(sums.narrow(0, 0, tile.size(0)).narrow(1, 0, tile.size(1)));
  }

  const MatrixView view_;  // [L, M], L ≥ M
  ThreadPool& pool_;
  const RunContext& context_;
  at::Tensor panel_;  // [≤ kPanel, stride()]
  internal::BFloat16Panels packed_;
};

double Trace(const SymmetricTiles& matrix) {
  double trace = 0;
  for (std::int64_t line = 0; line < matrix.lines(); ++line) {
    trace += matrix.Tile(line, line).diagonal().sum().item<double>();
  }
  return trace;
}

absl::StatusOr<Spectrum> ComputeUnguarded(const MatrixView& matrix,
                                          ThreadPool& pool,
                                          const RunContext& context) {
  const c10::NoGradGuard no_grad;
  MOESCOPE_RETURN_IF_ERROR(context.Check());
  ShortGram product(matrix, pool, context);
  MOESCOPE_ASSIGN_OR_RETURN(SymmetricTiles gram, product.Compute(0));
  int exponent = 0;
  if (!internal::InRange(Trace(gram), matrix.size())) {
    MOESCOPE_ASSIGN_OR_RETURN(exponent, product.Exponent());
    MOESCOPE_ASSIGN_OR_RETURN(gram, product.Compute(exponent));
  }
  // An element that is not finite is squared on the diagonal.
  if (!std::isfinite(Trace(gram))) {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    return Spectrum{kNan, kNan};
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<double> energies,
      internal::SymmetricEigenvalues(std::move(gram), pool, context));
  Spectrum spectrum = SpectrumFromEnergies(
      energies.data(), static_cast<std::int64_t>(energies.size()));
  spectrum.frobenius = std::ldexp(spectrum.frobenius, exponent);
  return spectrum;
}

}  // namespace

Spectrum SpectrumFromEnergies(const double* energies, std::int64_t count) {
  double total = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    total += std::max(0.0, energies[i]);
  }
  if (total == 0) {
    return {};
  }
  double entropy = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double share = std::max(0.0, energies[i]) / total;
    entropy -= share > 0 ? share * std::log(share) : 0;
  }
  return {std::sqrt(total), std::exp(entropy)};
}

absl::StatusOr<Spectrum> ComputeSpectrum(const MatrixView& matrix,
                                         ThreadPool& pool,
                                         const RunContext& context) {
  MOESCOPE_RETURN_IF_ERROR(CheckView("matrix", matrix));
  if (matrix.size() == 0) {
    return Spectrum{};
  }
  return CatchExceptionsOf<Spectrum>(
      [&] { return ComputeUnguarded(matrix, pool, context); });
}

}  // namespace moescope::numerics
