// From a dense symmetric matrix to a band: panel after panel of kBand columns is
// made triangular below the band, and the rest transformed with products of
// matrices.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "moescope/base/status_macros.h"
#include "server/numerics/shared_tasks_internal.h"
#include "server/numerics/symmetric_eigenvalues_internal.h"

namespace moescope::numerics::internal {
namespace {

constexpr std::int64_t kTile = SymmetricTiles::kTile;
static_assert(kTile % kBand == 0, "a panel lies in one column of tiles");

// Reflectors I − V T Vᵀ of a panel, and the triangle that they leave.
struct PanelFactor {
  at::Tensor v;         // [m, k]
  at::Tensor t;         // [k, k]
  at::Tensor triangle;  // [k, kBand]
};

// T of I − V T Vᵀ = Π (I − tau_i v_i v_iᵀ): LAPACK's dlarft, forward.
at::Tensor BlockReflector(const at::Tensor& v, const at::Tensor& tau) {
  const std::int64_t k = v.size(1);
  const at::Tensor products = at::mm(v.t(), v).contiguous();
  at::Tensor t = at::zeros({k, k}, at::kDouble);
  const double* const p = products.data_ptr<double>();
  const double* const factors = tau.data_ptr<double>();
  double* const out = t.data_ptr<double>();
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t row = 0; row < i; ++row) {
      double sum = 0;
      for (std::int64_t c = row; c < i; ++c) {
        sum += out[row * k + c] * p[c * k + i];
      }
      out[row * k + i] = -factors[i] * sum;
    }
    out[i * k + i] = factors[i];
  }
  return t;
}

PanelFactor Factor(const at::Tensor& panel) {
  const std::int64_t k = std::min(panel.size(0), panel.size(1));
  const auto [factored, tau] = at::geqrf(panel);
  PanelFactor factor;
  factor.v = factored.narrow(1, 0, k).tril(-1);
  factor.v.diagonal().fill_(1);
  factor.v = factor.v.contiguous();
  factor.triangle = factored.narrow(0, 0, k).triu();
  factor.t = BlockReflector(factor.v, tau.contiguous());
  return factor;
}

class BandReduction {
 public:
  BandReduction(SymmetricTiles& matrix, ThreadPool& pool,
                const RunContext& context)
      : matrix_(matrix), pool_(pool), context_(context), band_(matrix.size()) {}

  absl::StatusOr<BandMatrix> Run() {
    const c10::NoGradGuard no_grad;
    for (std::int64_t first = 0; first < matrix_.size(); first += kBand) {
      MOESCOPE_RETURN_IF_ERROR(context_.Check());
      CopyDiagonal(first);
      first_ = first + kBand;
      if (first_ < matrix_.size()) {
        const PanelFactor factor = Factor(Panel(first));
        CopyTriangle(first, factor.triangle);
        MOESCOPE_RETURN_IF_ERROR(Transform(factor));
      }
    }
    return std::move(band_);
  }

 private:
  // Lines of a row of tiles that are still to be reduced.
  struct Lines {
    std::int64_t skipped = 0;  // at the tile's beginning
    std::int64_t first = 0;    // after first_
    std::int64_t count = 0;
  };

  Lines LinesOf(std::int64_t tile_row) const {
    Lines lines;
    lines.skipped = std::max<std::int64_t>(0, first_ - tile_row * kTile);
    lines.first = tile_row * kTile + lines.skipped - first_;
    lines.count = matrix_.LengthOf(tile_row) - lines.skipped;
    return lines;
  }

  // The part of a tile that is still to be reduced.
  at::Tensor Rest(std::int64_t row, std::int64_t col) const {
    const Lines rows = LinesOf(row);
    const Lines cols = LinesOf(col);
    return matrix_.Tile(row, col)
        .narrow(0, rows.skipped, rows.count)
        .narrow(1, cols.skipped, cols.count);
  }

  static at::Tensor RowsOf(const at::Tensor& matrix, const Lines& lines) {
    return matrix.narrow(0, lines.first, lines.count);
  }

  void CopyDiagonal(std::int64_t first) {
    const std::int64_t count = std::min(kBand, matrix_.size() - first);
    const std::int64_t line = first / kTile;
    const at::Tensor tile = matrix_.Tile(line, line);
    const double* const entries = tile.data_ptr<double>() +
                                  (first - line * kTile) * (kTile + 1);
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) {
        *band_.at(first + i, first + j) = entries[i * kTile + j];
      }
    }
  }

  void CopyTriangle(std::int64_t first, const at::Tensor& triangle) {
    const auto entries = triangle.accessor<double, 2>();
    for (std::int64_t i = 0; i < triangle.size(0); ++i) {
      for (std::int64_t j = i; j < kBand; ++j) {
        *band_.at(first_ + i, first + j) = entries[i][j];
      }
    }
  }

  // Rows first_ and on of kBand columns. [m, kBand]
  at::Tensor Panel(std::int64_t first) const {
    const std::int64_t col = first / kTile;
    // Columns in one piece, as LAPACK has them.
    const at::Tensor panel =
        at::empty({kBand, matrix_.size() - first_}, at::kDouble).t();
    for (std::int64_t row = first_ / kTile; row < matrix_.lines(); ++row) {
      const Lines rows = LinesOf(row);
      RowsOf(panel, rows).copy_(matrix_.Tile(row, col)
                                    .narrow(0, rows.skipped, rows.count)
                                    .narrow(1, first - col * kTile, kBand));
    }
    return panel;
  }

  // A becomes Qᵀ A Q with Q = I − V T Vᵀ: A − V Wᵀ − W Vᵀ with X = A V T and
  // W = X − ½ V Tᵀ (Vᵀ X).
  absl::Status Transform(const PanelFactor& factor) {
    MOESCOPE_ASSIGN_OR_RETURN(at::Tensor w, Multiply(factor.v));
    w = at::mm(w, factor.t);
    const at::Tensor inner =
        at::mm(factor.t.t(), at::mm(factor.v.t(), w));  // [k, k]
    w.addmm_(factor.v, inner, 1, -0.5);
    const at::Tensor left = at::cat({factor.v, w}, 1);   // [m, 2k]
    const at::Tensor right = at::cat({w, factor.v}, 1);  // [m, 2k]
    const std::int64_t begin = first_ / kTile;
    const std::int64_t lines = matrix_.lines() - begin;
    const std::int64_t tiles = lines * (lines + 1) / 2;
    return RunTasks(pool_, context_, tiles, [&](std::int64_t number) {
      const SymmetricTiles::Index index = SymmetricTiles::IndexOf(number);
      const std::int64_t row = begin + index.row;
      const std::int64_t col = begin + index.col;
      Rest(row, col).addmm_(RowsOf(left, LinesOf(row)),
                            RowsOf(right, LinesOf(col)).t(), 1, -1);
    });
  }

  // A V, a row of tiles at a time. [m, k]
  absl::StatusOr<at::Tensor> Multiply(const at::Tensor& v) const {
    at::Tensor product = at::empty_like(v);
    const std::int64_t begin = first_ / kTile;
    const std::int64_t lines = matrix_.lines() - begin;
    MOESCOPE_RETURN_IF_ERROR(
        RunTasks(pool_, context_, lines, [&](std::int64_t number) {
          const std::int64_t row = begin + number;
          at::Tensor sum = RowsOf(product, LinesOf(row));
          sum.zero_();
          for (std::int64_t col = begin; col < matrix_.lines(); ++col) {
            const at::Tensor tile =
                col <= row ? Rest(row, col) : Rest(col, row).t();
            sum.addmm_(tile, RowsOf(v, LinesOf(col)));
          }
        }));
    return product;
  }

  SymmetricTiles& matrix_;
  ThreadPool& pool_;
  const RunContext& context_;
  BandMatrix band_;
  std::int64_t first_ = 0;  // lines before it are done
};

// The exponent of the largest magnitude, 0 for a zero matrix; not so low that
// its reciprocal is out of range.
int LargestExponent(const SymmetricTiles& matrix) {
  double largest = 0;
  for (std::int64_t t = 0; t < matrix.num_tiles(); ++t) {
    const auto [row, col] = SymmetricTiles::IndexOf(t);
    largest = std::max(largest, matrix.Tile(row, col).abs().max().item<double>());
  }
  return largest > 0 ? std::max(std::ilogb(largest), -1000) : 0;
}

}  // namespace

absl::StatusOr<BandMatrix> ReduceToBand(SymmetricTiles& matrix,
                                        ThreadPool& pool,
                                        const RunContext& context) {
  return BandReduction(matrix, pool, context).Run();
}

absl::StatusOr<std::vector<double>> SymmetricEigenvalues(
    SymmetricTiles matrix, ThreadPool& pool, const RunContext& context) {
  const c10::NoGradGuard no_grad;
  const int exponent = LargestExponent(matrix);
  for (std::int64_t t = 0; t < matrix.num_tiles(); ++t) {
    const auto [row, col] = SymmetricTiles::IndexOf(t);
    matrix.Tile(row, col).mul_(std::ldexp(1.0, -exponent));
  }
  MOESCOPE_ASSIGN_OR_RETURN(BandMatrix band,
                            ReduceToBand(matrix, pool, context));
  MOESCOPE_RETURN_IF_ERROR(ReduceToTridiagonal(band, pool, context));
  std::vector<double> d;
  std::vector<double> e;
  for (std::int64_t i = 0; i < band.size(); ++i) {
    d.push_back(*band.at(i, i));
    if (i + 1 < band.size()) {
      e.push_back(*band.at(i + 1, i));
    }
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      std::vector<double> values,
      TridiagonalEigenvalues(std::move(d), std::move(e), context));
  for (double& value : values) {
    value = std::ldexp(value, exponent);
  }
  return values;
}

}  // namespace moescope::numerics::internal
