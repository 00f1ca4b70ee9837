#include "server/numerics/symmetric_eigen_internal.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <vector>

#include "moescope/base/status_macros.h"
#include "server/numerics/block_product_kernels_internal.h"
#include "server/numerics/gram_kernels_internal.h"

namespace moescope::numerics::internal {
namespace {

// Up to this size the full decomposition is the faster way.
constexpr std::int64_t kFullSize = 480;
constexpr std::int64_t kRowTile = 128;
// Vectors kept at a restart beyond those asked for: they speed convergence
// where the eigenvalues lie close together.
constexpr std::int64_t kExtra = 8;
// Vectors in the basis at most, and how many there are when convergence is
// looked at: a look costs the cube of it.
constexpr std::int64_t kMaxBasis = 480;
constexpr std::int64_t kLooks[] = {80, 160, 240, 352, 416, kMaxBasis};
// Diagonal of the factor of what was orthogonal to the basis already.
constexpr double kOrthogonal = 0.7;
constexpr int kMaxPasses = 4;
constexpr int kMaxRestarts = 40;
constexpr double kExactResidual = 1e-8;
constexpr double kResidual = 1e-5;

// Length of every column. [b]
at::Tensor ColumnNorms(const at::Tensor& vectors) {
  return at::linalg_vector_norm(vectors, 2, at::IntArrayRef{0});
}

// Random vectors. [D, b]
at::Tensor Start(std::int64_t size) {
  at::Tensor start = at::empty({size, kBlockWidth}, at::kDouble);
  std::mt19937_64 random(1);
  double* const values = start.data_ptr<double>();
  for (std::int64_t i = 0; i < kBlockWidth * size; ++i) {
    // The upper 53 bits as a number in [-1, 1).
    values[i] = static_cast<double>(random() >> 11) * 0x1p-52 - 1;
  }
  return start;
}

struct Ritz {
  at::Tensor values;     // [k] largest first
  at::Tensor vectors;    // [k, D]
  at::Tensor images;     // [k, D] matrix · vectors
  at::Tensor residuals;  // [k] norms
};

// An orthonormal basis of start, C start, C² start, …, restarted from its best
// vectors when it is full: a block Krylov subspace. Vectors are rows.
class KrylovBasis {
 public:
  KrylovBasis(const at::Tensor& matrix, ThreadPool& pool,
              const RunContext& context)
      : matrix_(matrix),
        depth_(matrix.size(0)),
        pool_(pool),
        context_(context),
        next_(Start(depth_)) {
    basis_ = at::empty({kMaxBasis, depth_}, at::kDouble);
    images_ = at::empty({kMaxBasis, depth_}, at::kDouble);
    small_ = at::zeros({kMaxBasis, kMaxBasis}, at::kDouble);
  }

  std::int64_t size() const { return size_; }
  bool full() const { return size_ + kBlockWidth > kMaxBasis; }

  // By a block: the part of the last one's image outside the basis.
  absl::Status Extend() {
    const at::Tensor block = Orthonormal(next_);
    basis_.narrow(0, size_, kBlockWidth).copy_(block.t());
    MOESCOPE_ASSIGN_OR_RETURN(const at::Tensor image, Multiply(block));
    images_.narrow(0, size_, kBlockWidth).copy_(image.t());
    const std::int64_t grown = size_ + kBlockWidth;
    size_ = grown;
    const at::Tensor products = ProductsWith(image);  // [grown, b]
    small_.narrow(0, 0, grown)
        .narrow(1, grown - kBlockWidth, kBlockWidth)
        .copy_(products);
    small_.narrow(0, grown - kBlockWidth, kBlockWidth)
        .narrow(1, 0, grown)
        .copy_(products.t());
    next_ = image - Combine(products);
    return absl::OkStatus();
  }

  // The best `count` approximations in the basis.
  Ritz Solve(std::int64_t count) const {
    const at::Tensor small = small_.narrow(0, 0, size_).narrow(1, 0, size_);
    const auto [values, vectors] = at::linalg_eigh(small);
    const at::Tensor top =
        vectors.narrow(1, size_ - count, count).flip(1).t();  // [k, size]
    Ritz ritz;
    ritz.values = values.narrow(0, size_ - count, count).flip(0);
    ritz.vectors = at::mm(top, basis_.narrow(0, 0, size_));
    ritz.images = at::mm(top, images_.narrow(0, 0, size_));
    ritz.residuals = at::linalg_vector_norm(
        ritz.images - ritz.vectors * ritz.values.unsqueeze(1), 2,
        at::IntArrayRef{1});
    return ritz;
  }

  // Goes on from these alone; what is missing of their images lies in the
  // block that comes next.
  void Restart(const Ritz& ritz) {
    size_ = ritz.values.size(0);
    basis_.narrow(0, 0, size_).copy_(ritz.vectors);
    images_.narrow(0, 0, size_).copy_(ritz.images);
    small_.narrow(0, 0, size_).narrow(1, 0, size_).copy_(
        at::diag(ritz.values));
  }

 private:
  // An orthonormal basis of `block` outside the basis. [D, b]
  at::Tensor Orthonormal(at::Tensor block) const {
    for (int pass = 0; pass < kMaxPasses; ++pass) {
      if (pass > 0 && size_ > 0) {
        block = block - Combine(ProductsWith(block));
      }
      const auto [q, r] = at::linalg_qr(block);
      block = q.contiguous();
      if (pass > 0 &&
          r.diagonal().abs().min().item<double>() > kOrthogonal) {
        break;
      }
    }
    return block;
  }

  // basis · block. [size, b]
  at::Tensor ProductsWith(const at::Tensor& block) const {
    at::Tensor products = at::empty({size_, kBlockWidth}, at::kDouble);
    MultiplyBlock({basis_.data_ptr<double>(), size_, depth_, depth_, 1},
                  block.data_ptr<double>(), products.data_ptr<double>());
    return products;
  }

  // basisᵀ · weights. [D, b]
  at::Tensor Combine(const at::Tensor& weights) const {
    at::Tensor sums = at::empty({depth_, kBlockWidth}, at::kDouble);
    MultiplyBlock({basis_.data_ptr<double>(), depth_, size_, 1, depth_},
                  weights.data_ptr<double>(), sums.data_ptr<double>());
    return sums;
  }

  // matrix · block, in row tiles. [D, b]
  absl::StatusOr<at::Tensor> Multiply(const at::Tensor& block) const {
    at::Tensor product = at::empty({depth_, kBlockWidth}, at::kDouble);
    const double* const from = block.data_ptr<double>();
    double* const to = product.data_ptr<double>();
    MOESCOPE_RETURN_IF_ERROR(pool_.ParallelFor(
        (depth_ + kRowTile - 1) / kRowTile, [&](std::int64_t t) {
          const std::int64_t first = t * kRowTile;
          MultiplyBlock({matrix_.data_ptr<double>() + first * depth_,
                         std::min(kRowTile, depth_ - first), depth_, depth_, 1},
                        from, to + first * kBlockWidth);
          return context_.Check();
        }));
    return product;
  }

  const at::Tensor& matrix_;
  const std::int64_t depth_;
  ThreadPool& pool_;
  const RunContext& context_;
  std::int64_t size_ = 0;
  at::Tensor next_;    // [D, b]
  at::Tensor basis_;   // [kMaxBasis, D], the first `size_` rows of it
  at::Tensor images_;  // the same: matrix · basis
  at::Tensor small_;   // basis · matrix · basisᵀ
};

bool IsLook(std::int64_t size) {
  return std::find(std::begin(kLooks), std::end(kLooks), size) !=
         std::end(kLooks);
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
  // Whole blocks, so that a basis fills up exactly.
  const std::int64_t kept = RoundUp(count + kExtra, kBlockWidth);
  if (size <= kFullSize || 2 * kept > kMaxBasis) {
    return Full(matrix, count, exact);
  }
  KrylovBasis basis(matrix, pool, context);
  for (int restart = 0; restart < kMaxRestarts;) {
    do {
      MOESCOPE_RETURN_IF_ERROR(context.Check());
      MOESCOPE_RETURN_IF_ERROR(basis.Extend());
    } while (basis.size() < kept || !IsLook(basis.size()));
    const Ritz ritz = basis.Solve(kept);
    const double largest = ritz.values[0].item<double>();
    const double worst =
        ritz.residuals.narrow(0, 0, exact).max().item<double>();
    const double others =
        ritz.residuals.narrow(0, 0, count).max().item<double>();
    if (worst <= kExactResidual * largest && others <= kResidual * largest) {
      return LeadingPairs{ritz.values.narrow(0, 0, count).contiguous(),
                          ritz.vectors.narrow(0, 0, count).t().contiguous(),
                          largest > 0 ? worst / largest : 0};
    }
    if (basis.full()) {
      basis.Restart(ritz);
      ++restart;
    }
  }
  MOESCOPE_RETURN_IF_ERROR(context.Check());
  return Full(matrix, count, exact);
}

}  // namespace moescope::numerics::internal
