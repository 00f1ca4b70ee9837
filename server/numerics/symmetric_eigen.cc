#include "server/numerics/symmetric_eigen_internal.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <exception>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"

namespace moescope::numerics::internal {
namespace {

// Up to this size the full decomposition is the faster way.
constexpr std::int64_t kFullSize = 256;
constexpr std::int64_t kRowTile = 256;
// Vectors of a block beyond those asked for: they speed convergence where the
// eigenvalues lie close together.
constexpr std::int64_t kExtra = 8;
constexpr std::int64_t kBlocks = 8;
constexpr int kMaxRestarts = 60;
constexpr double kExactResidual = 1e-8;
constexpr double kResidual = 1e-5;

// matrix · vectors, in row tiles. [D, b]
absl::StatusOr<at::Tensor> Product(const at::Tensor& matrix,
                                   const at::Tensor& vectors, ThreadPool& pool,
                                   const RunContext& context) {
  const std::int64_t rows = matrix.size(0);
  at::Tensor product = at::empty({rows, vectors.size(1)}, at::kDouble);
  MOESCOPE_RETURN_IF_ERROR(pool.ParallelFor(
      (rows + kRowTile - 1) / kRowTile, [&](std::int64_t t) {
        absl::Status wanted = context.Check();
        if (!wanted.ok()) {
          return wanted;
        }
        try {
          const at::NoGradGuard no_grad;
          const std::int64_t first = t * kRowTile;
          const std::int64_t count = std::min(kRowTile, rows - first);
          product.narrow(0, first, count)
              .copy_(at::mm(matrix.narrow(0, first, count), vectors));
        } catch (const std::exception& error) {
          return absl::InternalError(absl::StrCat("product: ", error.what()));
        }
        return absl::OkStatus();
      }));
  return product;
}

// Length of every column. [b]
at::Tensor ColumnNorms(const at::Tensor& vectors) {
  return at::linalg_vector_norm(vectors, 2, at::IntArrayRef{0});
}

at::Tensor Start(std::int64_t rows, std::int64_t cols) {
  at::Tensor start = at::empty({rows, cols}, at::kDouble);
  std::mt19937_64 random(1);
  double* const values = start.data_ptr<double>();
  for (std::int64_t i = 0; i < rows * cols; ++i) {
    // The upper 53 bits as a number in [-1, 1).
    values[i] = static_cast<double>(random() >> 11) * 0x1p-52 - 1;
  }
  return start;
}

// An orthonormal basis of `block` outside the span of `basis`.
at::Tensor Orthonormal(const at::Tensor& basis, at::Tensor block) {
  // Twice is enough: once leaves what rounding left.
  for (int pass = 0; pass < 2; ++pass) {
    if (basis.defined()) {
      block = block - at::mm(basis, at::mm(basis.t(), block));
    }
    block = std::get<0>(at::linalg_qr(block));
  }
  return block;
}

struct Ritz {
  at::Tensor values;     // [b] largest first
  at::Tensor vectors;    // [D, b]
  at::Tensor residuals;  // [b] norms
};

// Rayleigh-Ritz on the span of start, C start, …, C^(kBlocks-1) start.
absl::StatusOr<Ritz> Restart(const at::Tensor& matrix, const at::Tensor& start,
                             ThreadPool& pool, const RunContext& context) {
  const std::int64_t width = start.size(1);
  at::Tensor basis;
  at::Tensor image;
  at::Tensor block = start;
  for (std::int64_t step = 0; step < kBlocks; ++step) {
    block = Orthonormal(basis, block);
    basis = basis.defined() ? at::cat({basis, block}, 1) : block;
    MOESCOPE_ASSIGN_OR_RETURN(block, Product(matrix, block, pool, context));
    image = image.defined() ? at::cat({image, block}, 1) : block;
  }
  const at::Tensor small = at::mm(basis.t(), image);
  const auto [values, vectors] = at::linalg_eigh((small + small.t()) * 0.5);
  const at::Tensor top =
      vectors.narrow(1, vectors.size(1) - width, width).flip(1);
  Ritz ritz;
  ritz.values = values.narrow(0, values.size(0) - width, width).flip(0);
  ritz.vectors = at::mm(basis, top);
  ritz.residuals =
      ColumnNorms(at::mm(image, top) - ritz.vectors * ritz.values);
  return ritz;
}

LeadingPairs Full(const at::Tensor& matrix, std::int64_t count,
                  std::int64_t exact) {
  const auto [values, vectors] = at::linalg_eigh(matrix);
  const std::int64_t first = matrix.size(0) - count;
  LeadingPairs pairs;
  pairs.values = values.narrow(0, first, count).flip(0).contiguous();
  pairs.vectors = vectors.narrow(1, first, count).flip(1).contiguous();
  const at::Tensor v = pairs.vectors.narrow(1, 0, exact);
  const at::Tensor residuals =
      ColumnNorms(at::mm(matrix, v) - v * pairs.values.narrow(0, 0, exact));
  const double largest = pairs.values[0].item<double>();
  pairs.residual =
      largest > 0 ? residuals.max().item<double>() / largest : 0;
  return pairs;
}

}  // namespace

absl::StatusOr<LeadingPairs> LargestPairs(const at::Tensor& matrix,
                                          std::int64_t count,
                                          std::int64_t exact, ThreadPool& pool,
                                          const RunContext& context) {
  const std::int64_t size = matrix.size(0);
  const std::int64_t width = count + kExtra;
  if (size <= kFullSize || size < width * kBlocks) {
    return Full(matrix, count, exact);
  }
  at::Tensor start = Start(size, width);
  for (int restart = 0; restart < kMaxRestarts; ++restart) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    MOESCOPE_ASSIGN_OR_RETURN(const Ritz ritz,
                              Restart(matrix, start, pool, context));
    const double largest = ritz.values[0].item<double>();
    const double worst =
        ritz.residuals.narrow(0, 0, exact).max().item<double>();
    const double others =
        ritz.residuals.narrow(0, 0, count).max().item<double>();
    if (worst <= kExactResidual * largest && others <= kResidual * largest) {
      return LeadingPairs{ritz.values.narrow(0, 0, count).contiguous(),
                          ritz.vectors.narrow(1, 0, count).contiguous(),
                          largest > 0 ? worst / largest : 0};
    }
    start = ritz.vectors;
  }
  MOESCOPE_RETURN_IF_ERROR(context.Check());
  return Full(matrix, count, exact);
}

}  // namespace moescope::numerics::internal
