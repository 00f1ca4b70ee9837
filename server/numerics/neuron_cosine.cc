#include "moescope/numerics/neuron_cosine.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/catch_exceptions.h"
#include "moescope/base/error.h"
#include "moescope/base/free_list.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/widen_rows.h"
#include "server/numerics/bfloat16_panels_internal.h"
#include "server/numerics/dot_kernels_internal.h"
#include "server/numerics/neuron_cosine_internal.h"

namespace moescope::numerics {

namespace internal {

absl::Status CheckPairs(absl::Span<const NeuronPair> pairs) {
  if (pairs.empty() || pairs.size() > 3) {
    return InvalidField("pairs",
                        absl::StrCat(pairs.size(), " pairs; allowed are 1 to 3"));
  }
  for (const NeuronPair& pair : pairs) {
    MOESCOPE_RETURN_IF_ERROR(CheckView("left", pair.left));
    MOESCOPE_RETURN_IF_ERROR(CheckView("right", pair.right));
    if (pair.left.rows != pairs[0].left.rows ||
        pair.right.rows != pair.left.rows ||
        pair.right.cols != pair.left.cols) {
      return InvalidField(
          "pairs", absl::StrCat("neurons [", pair.left.rows, ", ",
                                pair.left.cols, "] and [", pair.right.rows,
                                ", ", pair.right.cols, "] do not match"));
    }
  }
  return absl::OkStatus();
}

}  // namespace internal

namespace {

// Blocks and parts follow from the shapes and the product alone, not from the
// number of threads.
constexpr std::int64_t kBlockRows = 512;
constexpr std::int64_t kBlockCols = 2048;
// A part of a block is one thread's: one call of the BLAS library, which takes
// some ten milliseconds (that is how soon a cancellation is seen), or as much as
// has its fp64 products in the second-level cache.
constexpr std::int64_t kProductRows = 256;
constexpr std::int64_t kProductCols = 512;
constexpr std::int64_t kPackedRows = 128;
constexpr std::int64_t kPackedCols = 192;
// Rows widened at once: columns that lie together in memory are read well.
constexpr std::int64_t kWidenRows = 64;
// Panels packed at once: where neurons are columns, two cache lines of these.
constexpr std::int64_t kPackPanels = 4;
// Squares of norms between which fp32 sums of products of the numbers as they
// are neither overflow nor lose anything that a cosine would show.
constexpr double kLeastSquare = 0x1p-60;
constexpr double kMostSquare = 0x1p100;

absl::Status NotFinite(std::int64_t neuron) {
  return InvalidField("pairs",
                      absl::StrCat("neuron ", neuron, " is not finite"));
}

// Neurons first … first + count of one side of a pair, ready for products: bf16
// numbers packed as they are, or in fp32 at length 1.
class Side {
 public:
  // Packs if that can be done, and products of the numbers as they are lose
  // nothing; returns whether it has.
  absl::StatusOr<bool> Pack(const MatrixView& view, std::int64_t first,
                            std::int64_t count, ThreadPool& pool,
                            const RunContext& context) {
    if (!internal::UseBFloat16Panels() ||
        !internal::BFloat16Panels::Fits(view)) {
      return false;
    }
    panels_.Resize(count, view.cols);
    inverse_norms_.assign(
        static_cast<std::size_t>(panels_.panels() * internal::kPanelLines),
        0.0);
    const std::int64_t groups =
        (panels_.panels() + kPackPanels - 1) / kPackPanels;
    // Not of bool, whose neighbours share a byte.
    std::vector<char> is_extreme(static_cast<std::size_t>(groups), 0);
    const auto pack = [&](std::int64_t group) -> absl::Status {
      MOESCOPE_RETURN_IF_ERROR(context.Check());
      const std::int64_t panel = group * kPackPanels;
      const std::int64_t end = std::min(panels_.panels(), panel + kPackPanels);
      panels_.Pack(view, {first, count, 0, view.cols}, panel, end - panel);
      for (std::int64_t p = panel; p < end; ++p) {
        MOESCOPE_RETURN_IF_ERROR(
            TakeNorms(first, p, is_extreme[static_cast<std::size_t>(group)]));
      }
      return absl::OkStatus();
    };
    MOESCOPE_RETURN_IF_ERROR(pool.ParallelFor(groups, pack));
    return std::count(is_extreme.begin(), is_extreme.end(), 1) == 0;
  }

  absl::Status Normalise(const MatrixView& view, std::int64_t first,
                         std::int64_t count, ThreadPool& pool,
                         const RunContext& context) {
    if (!rows_.defined() || rows_.size(0) < count ||
        rows_.size(1) != view.cols) {
      rows_ = at::Tensor();
      rows_ = at::empty({count, view.cols}, at::kFloat);
    }
    float* const rows = rows_.data_ptr<float>();
    return pool.ParallelFor(
        (count + kWidenRows - 1) / kWidenRows, [&](std::int64_t group) {
          const std::int64_t r = group * kWidenRows;
          const absl::Status wanted = context.Check();
          return wanted.ok()
                     ? NormaliseRows(view, first + r,
                                     std::min(kWidenRows, count - r),
                                     rows + r * view.cols)
                     : wanted;
        });
  }

  const internal::BFloat16Panels& panels() const { return panels_; }
  const std::vector<double>& inverse_norms() const { return inverse_norms_; }
  // Rows at length 1. [count, D]
  at::Tensor Rows(std::int64_t first, std::int64_t count) const {
    return rows_.narrow(0, first, count);
  }

 private:
  absl::Status TakeNorms(std::int64_t first, std::int64_t panel,
                         char& is_extreme) {
    std::int64_t line = panel * internal::kPanelLines;
    for (const double square : panels_.SquaresOf(panel)) {
      if (!std::isfinite(square)) {
        return NotFinite(first + line);
      }
      if (square > 0) {
        inverse_norms_[static_cast<std::size_t>(line)] = 1 / std::sqrt(square);
        if (square < kLeastSquare || square > kMostSquare) {
          is_extreme = 1;
        }
      }
      ++line;
    }
    return absl::OkStatus();
  }

  static absl::Status NormaliseRows(const MatrixView& view, std::int64_t first,
                                    std::int64_t count, float* rows) {
    WidenRows(view, first, count, rows);
    for (std::int64_t i = 0; i < count; ++i) {
      float* const row = rows + i * view.cols;
      const double square = internal::DotFloats(row, row, view.cols);
      if (!std::isfinite(square)) {
        return NotFinite(first + i);
      }
      // In fp64: the inverse of a tiny norm is beyond fp32.
      const double inverse = square > 0 ? 1 / std::sqrt(square) : 0.0;
      std::for_each(row, row + view.cols, [inverse](float& value) {
        value = static_cast<float>(static_cast<double>(value) * inverse);
      });
    }
    return absl::OkStatus();
  }

  internal::BFloat16Panels panels_;
  std::vector<double> inverse_norms_;  // 0 for a zero neuron and for padding
  at::Tensor rows_;
};

// What a thread needs for a part of a block.
struct PartMemory {
  at::Tensor cosines = at::empty({kProductRows, kProductCols}, at::kFloat);
  double products[kPackedRows * kPackedCols];
};

}  // namespace

namespace internal {

// The sides of a block, one block at a time, and of each part at work what its
// thread needs.
struct CosineMemory {
  Side left[3];
  Side right[3];
  FreeList<PartMemory> parts;
};

}  // namespace internal

namespace {

struct Block {
  std::int64_t row = 0;
  std::int64_t rows = 0;
  std::int64_t col = 0;
  std::int64_t cols = 0;
};

class MatrixFiller {
 public:
  MatrixFiller(absl::Span<const NeuronPair> pairs, ThreadPool& pool,
               const RunContext& context, internal::CosineMemory& memory,
               SimilarityMatrix& out)
      : pairs_(pairs),
        pool_(pool),
        context_(context),
        memory_(memory),
        out_(out) {}

  absl::Status Fill() {
    const std::int64_t size = out_.size();
    for (std::int64_t col = 0; col < size; col += kBlockCols) {
      const std::int64_t cols = std::min(kBlockCols, size - col);
      MOESCOPE_RETURN_IF_ERROR(LoadRight(col, cols));
      for (std::int64_t row = 0; row < size; row += kBlockRows) {
        MOESCOPE_RETURN_IF_ERROR(
            FillBlock({row, std::min(kBlockRows, size - row), col, cols}));
      }
    }
    return absl::OkStatus();
  }

 private:
  // Packed, if all pairs can be; else at length 1 once a block needs that.
  absl::Status LoadRight(std::int64_t col, std::int64_t cols) {
    right_is_packed_ = true;
    right_is_normalised_ = false;
    for (std::size_t p = 0; p < pairs_.size() && right_is_packed_; ++p) {
      MOESCOPE_ASSIGN_OR_RETURN(
          right_is_packed_,
          memory_.right[p].Pack(pairs_[p].right, col, cols, pool_, context_));
    }
    return absl::OkStatus();
  }

  absl::Status FillBlock(const Block& block) {
    bool is_packed = right_is_packed_;
    for (std::size_t p = 0; p < pairs_.size() && is_packed; ++p) {
      MOESCOPE_ASSIGN_OR_RETURN(
          is_packed, memory_.left[p].Pack(pairs_[p].left, block.row, block.rows,
                                          pool_, context_));
    }
    if (!is_packed) {
      MOESCOPE_RETURN_IF_ERROR(Normalise(block));
    }
    const std::int64_t rows = is_packed ? kPackedRows : kProductRows;
    const std::int64_t cols = is_packed ? kPackedCols : kProductCols;
    const std::int64_t down = (block.rows + rows - 1) / rows;
    const std::int64_t across = (block.cols + cols - 1) / cols;
    return pool_.ParallelFor(
        down * across, [&](std::int64_t task) -> absl::Status {
          MOESCOPE_RETURN_IF_ERROR(context_.Check());
          Block part;
          part.row = task % down * rows;
          part.rows = std::min(rows, block.rows - part.row);
          part.col = task / down * cols;
          part.cols = std::min(cols, block.cols - part.col);
          // Not returned after an exception: it is freed.
          std::unique_ptr<PartMemory> memory = memory_.parts.Take();
          const absl::Status filled = is_packed
                                          ? FillPacked(block, part, *memory)
                                          : FillProduct(block, part, *memory);
          memory_.parts.Return(std::move(memory));
          return filled;
        });
  }

  absl::Status Normalise(const Block& block) {
    for (std::size_t p = 0; p < pairs_.size(); ++p) {
      if (!right_is_normalised_) {
        MOESCOPE_RETURN_IF_ERROR(memory_.right[p].Normalise(
            pairs_[p].right, block.col, block.cols, pool_, context_));
      }
      MOESCOPE_RETURN_IF_ERROR(memory_.left[p].Normalise(
          pairs_[p].left, block.row, block.rows, pool_, context_));
    }
    right_is_normalised_ = true;
    return absl::OkStatus();
  }

  // `part` counts from the start of the block.
  absl::Status FillProduct(const Block& block, const Block& part,
                           PartMemory& memory) {
    const c10::NoGradGuard no_grad;  // Of this thread.
    at::Tensor cosines =
        memory.cosines.narrow(0, 0, part.rows).narrow(1, 0, part.cols);
    for (std::size_t p = 0; p < pairs_.size(); ++p) {
      cosines.addmm_(memory_.left[p].Rows(part.row, part.rows),
                     memory_.right[p].Rows(part.col, part.cols).t(),
                     p == 0 ? 0 : 1, 1);
    }
    return out_.Set(block.row + part.row, block.col + part.col,
                    {cosines.data_ptr<float>(), ElementType::kFloat32,
                     part.rows, part.cols, cosines.stride(0)});
  }

  absl::Status FillPacked(const Block& block, const Block& part,
                          PartMemory& memory) {
    float* const cosines = memory.cosines.data_ptr<float>();
    for (std::size_t p = 0; p < pairs_.size(); ++p) {
      const Side& left = memory_.left[p];
      const Side& right = memory_.right[p];
      internal::MultiplyPanels(left.panels(), {part.row, part.rows},
                               right.panels(), {part.col, part.cols},
                               /*upper=*/false, memory.products, kPackedCols);
      for (std::int64_t r = 0; r < part.rows; ++r) {
        internal::ScaleProducts(
            memory.products + r * kPackedCols, part.cols,
            left.inverse_norms()[static_cast<std::size_t>(part.row + r)],
            right.inverse_norms().data() + part.col, p > 0,
            cosines + r * kPackedCols);
      }
    }
    return out_.Set(block.row + part.row, block.col + part.col,
                    {cosines, ElementType::kFloat32, part.rows, part.cols,
                     kPackedCols});
  }

  const absl::Span<const NeuronPair> pairs_;
  ThreadPool& pool_;
  const RunContext& context_;
  internal::CosineMemory& memory_;
  SimilarityMatrix& out_;
  bool right_is_packed_ = false;
  bool right_is_normalised_ = false;
};

}  // namespace

std::string NeuronProductType() {
  return internal::UseBFloat16Panels() ? "bf16" : "fp32";
}

absl::Status FillCosines(absl::Span<const NeuronPair> pairs, ThreadPool& pool,
                         const RunContext& context, SimilarityMatrix& out) {
  MOESCOPE_RETURN_IF_ERROR(internal::CheckPairs(pairs));
  out.Resize(pairs[0].left.rows);
  if (out.size() == 0) {
    return absl::OkStatus();
  }
  return CatchExceptions([&] {
    if (out.cosine_memory() == nullptr) {
      out.cosine_memory() = std::make_shared<internal::CosineMemory>();
    }
    return MatrixFiller(pairs, pool, context, *out.cosine_memory(), out).Fill();
  });
}

}  // namespace moescope::numerics
