#include "moescope/numerics/effective_rank.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "moescope/numerics/widen_rows.h"
#include "server/numerics/range_scale_internal.h"

namespace moescope::numerics {
namespace {

constexpr std::int64_t kTileSize = 256;
// Length of a sum that is left to fp32.
constexpr std::int64_t kPanel = 512;

// The matrix in fp32, its shorter side first. [M, L]
at::Tensor ShortSideFirst(const MatrixView& matrix) {
  const MatrixView view =
      matrix.rows <= matrix.cols ? matrix : Transposed(matrix);
  at::Tensor wide = at::empty({view.rows, view.cols}, at::kFloat);
  WidenRows(view, 0, view.rows, wide.data_ptr<float>());
  return wide;
}

// Rows i … of x times rows j … of x, written to both halves of `gram`.
void FillTile(const at::Tensor& x, std::int64_t i, std::int64_t j,
              at::Tensor& gram) {
  const c10::NoGradGuard no_grad;
  const std::int64_t rows = std::min(kTileSize, x.size(0) - i);
  const std::int64_t cols = std::min(kTileSize, x.size(0) - j);
  at::Tensor sum = at::zeros({rows, cols}, at::kDouble);
  for (std::int64_t t = 0; t < x.size(1); t += kPanel) {
    const std::int64_t length = std::min(kPanel, x.size(1) - t);
    const at::Tensor left = x.narrow(0, i, rows).narrow(1, t, length);
    const at::Tensor right = x.narrow(0, j, cols).narrow(1, t, length);
    sum.add_(at::mm(left, right.t()));
  }
  gram.narrow(0, i, rows).narrow(1, j, cols).copy_(sum);
  gram.narrow(0, j, cols).narrow(1, i, rows).copy_(sum.t());
}

absl::StatusOr<at::Tensor> ShortGram(const at::Tensor& x, ThreadPool& pool,
                                     const RunContext& context) {
  at::Tensor gram = at::empty({x.size(0), x.size(0)}, at::kDouble);
  std::vector<std::pair<std::int64_t, std::int64_t>> tiles;
  for (std::int64_t i = 0; i < x.size(0); i += kTileSize) {
    for (std::int64_t j = i; j < x.size(0); j += kTileSize) {
      tiles.emplace_back(i, j);
    }
  }
  MOESCOPE_RETURN_IF_ERROR(pool.ParallelFor(
      static_cast<std::int64_t>(tiles.size()), [&](std::int64_t t) {
        absl::Status wanted = context.Check();
        if (!wanted.ok()) {
          return wanted;
        }
        // An exception must not leave the pool's thread.
        try {
          const auto [i, j] = tiles[static_cast<std::size_t>(t)];
          FillTile(x, i, j, gram);
        } catch (const std::exception& error) {
          return absl::InternalError(absl::StrCat("gram tile: ", error.what()));
        }
        return absl::OkStatus();
      }));
  return gram;
}

absl::StatusOr<Spectrum> ComputeUnguarded(const MatrixView& matrix,
                                          ThreadPool& pool,
                                          const RunContext& context) {
  const c10::NoGradGuard no_grad;
  MOESCOPE_RETURN_IF_ERROR(context.Check());
  at::Tensor x = ShortSideFirst(matrix);
  MOESCOPE_ASSIGN_OR_RETURN(at::Tensor gram, ShortGram(x, pool, context));
  int exponent = 0;
  if (!internal::InRange(gram.diagonal().sum().item<double>(), x.numel())) {
    float* const values = x.data_ptr<float>();
    const auto count = static_cast<std::size_t>(x.numel());
    exponent = internal::RangeExponent({values, count});
    std::transform(values, values + count, values,
                   [exponent](float v) { return std::ldexp(v, -exponent); });
    MOESCOPE_ASSIGN_OR_RETURN(gram, ShortGram(x, pool, context));
  }
  if (!std::isfinite(gram.sum().item<double>())) {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    return Spectrum{kNan, kNan};
  }
  MOESCOPE_RETURN_IF_ERROR(context.Check());
  const at::Tensor energies = at::linalg_eigvalsh(gram).contiguous();
  Spectrum spectrum =
      SpectrumFromEnergies(energies.data_ptr<double>(), energies.numel());
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
  try {
    return ComputeUnguarded(matrix, pool, context);
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("spectrum: ", error.what()));
  }
}

}  // namespace moescope::numerics
