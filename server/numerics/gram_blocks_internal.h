#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "server/numerics/gram_kernels_internal.h"

#include "moescope/numerics/matrix_view.h"
#include "moescope/numerics/widen_rows.h"

// How ComputeGram cuts its matrices, and what it holds meanwhile.
namespace moescope::numerics::internal {

// Elements of all participants that one task works on.
inline constexpr std::int64_t kChunkElements = std::int64_t{1} << 22;
inline constexpr std::int64_t kMaxChunkRows = 2048;
// Elements of all participants that stay in the second-level cache, beside the
// sums of columns, while everything asked for is computed from them.
inline constexpr std::int64_t kBlockElements = std::int64_t{1} << 16;
// Rows of a block: a strip of the kernels that sum sides.
inline constexpr std::int64_t kBlockRows = 8;
inline constexpr std::int64_t kMaxBlockCols = 1024;
// Rows whose columns are summed in fp32, at most; whole strips of the kernels.
// Counted from the first row and never cut by a larger block, so that the sums do
// not depend on the number of participants. Nearly equal experts differ by so
// little that more roundings would show.
inline constexpr std::int64_t kSumRows = 32;
// Elements of all participants between two additions in fp64, within the
// limits that keep rounding small and the reduction of sums cheap.
inline constexpr std::int64_t kGramElements = std::int64_t{1} << 16;
inline constexpr std::int64_t kMinGramRun = 256;
inline constexpr std::int64_t kMaxGramRun = 4096;
// Few participants share long runs: their parts, with what is standardised,
// stay in the first-level cache (32 KiB), and the lanes of the sums beside them.
inline constexpr std::int64_t kMaxPartParticipants = 16;
inline constexpr std::int64_t kPartBytes = 24 << 10;

/// For N participants of C columns. The sizes follow from the shape alone, never
/// from the number of threads, so that sums are always formed in the same order.
struct GramSizes {
  GramSizes(std::int64_t n, std::int64_t cols)
      : gram_run(std::clamp(
            kGramElements / RoundUp(n, kTile) / kRunPadding * kRunPadding,
            kMinGramRun, kMaxGramRun)),
        part(RoundUp(n, kTile) > kMaxPartParticipants
                 ? gram_run
                 : std::clamp(kPartBytes / 6 / n / (4 * kRunPadding) *
                                  (4 * kRunPadding),
                              4 * kRunPadding, gram_run)),
        // A cache line apart beyond their length, and the padding of a run:
        // equal distances of a power of two would fall into the same cache sets.
        stride(part + 3 * kRunPadding),
        chunk_rows(RoundUp(
            std::clamp<std::int64_t>(
                kChunkElements / std::max<std::int64_t>(1, n * cols), 1,
                kMaxChunkRows),
            kSumRows)),
        block_cols(std::max(
            kBlockElements / kBlockRows / n / kRunPadding * kRunPadding,
            std::min(gram_run, kMaxBlockCols))) {}

  const std::int64_t gram_run;  ///< Elements between additions in fp64, at most.
  const std::int64_t part;      ///< Elements that kernels take at once.
  const std::int64_t stride;    ///< Floats between widened parts.
  const std::int64_t chunk_rows;
  const std::int64_t block_cols;
};

/// Partial sums of one chunk of rows. Grams are padded to whole tiles; the
/// standardised one is of the differences of participants 1, 2, … from the first.
struct GramSums {
  std::vector<double> gram;               // [P, P]
  std::vector<double> standardised_gram;  // [Q, Q], Q = N - 1 padded
  std::vector<double> column_sums;        // [N, C]
  std::vector<double> column_squares;     // [N, C]
};

/// Floats that begin at a cache line: vectors of the widest targets that cross
/// lines take twice the time.
class AlignedFloats {
 public:
  void Resize(std::int64_t count) {
    constexpr std::size_t kLineFloats = 16;
    values_.assign(static_cast<std::size_t>(count) + kLineFloats, 0.0F);
    void* at = values_.data();
    std::size_t room = values_.size() * sizeof(float);
    data_ = static_cast<float*>(
        std::align(kLineFloats * sizeof(float),
                   static_cast<std::size_t>(count) * sizeof(float), at, room));
  }
  // nullptr before Resize.
  float* data() const { return data_; }

 private:
  std::vector<float> values_;
  float* data_ = nullptr;
};

/// Of one task.
struct GramBuffers {
  // Where a run begins in each participant, then in zeros. [P]
  std::vector<const void*> starts;
  std::vector<const float*> runs;
  // Runs of all participants, rows of a stride.
  AlignedFloats widened;
  AlignedFloats standardised;
  AlignedFloats scratch;
  // Lanes of the sums of a run that is worked on in parts, else nothing.
  AlignedFloats gram_lanes;
  AlignedFloats standardised_lanes;
  // Sums over fewer than kSumRows rows, not yet in those of the chunk. [N, C]
  std::vector<float> column_sums;
  std::vector<float> column_squares;
};

/// Dense views of the same block of all participants; with `exponents`, one per
/// participant, of fp32 copies of the block divided by 2^exponent.
class BlocksReader {
 public:
  BlocksReader(absl::Span<const MatrixView> views,
               absl::Span<const int> exponents)
      : views_(views),
        exponents_(exponents),
        readers_(views.size()),
        scaled_(exponents.size()),
        blocks_(views.size()) {}

  const std::vector<MatrixView>& Read(const MatrixBlock& block) {
    for (std::size_t n = 0; n < readers_.size(); ++n) {
      blocks_[n] = readers_[n].Read(views_[n], block);
      if (!exponents_.empty()) {
        blocks_[n] = Scaled(blocks_[n], exponents_[n], scaled_[n]);
      }
    }
    return blocks_;
  }

 private:
  static MatrixView Scaled(const MatrixView& block, int exponent,
                           std::vector<float>& out) {
    out.resize(static_cast<std::size_t>(block.size()));
    WidenRows(block, 0, block.rows, out.data());
    for (float& x : out) {
      x = std::ldexp(x, -exponent);
    }
    return {out.data(), ElementType::kFloat32, block.rows, block.cols,
            block.cols};
  }

  const absl::Span<const MatrixView> views_;
  const absl::Span<const int> exponents_;
  std::vector<BlockReader> readers_;
  std::vector<std::vector<float>> scaled_;
  std::vector<MatrixView> blocks_;
};

}  // namespace moescope::numerics::internal
