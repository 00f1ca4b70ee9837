#include "moescope/numerics/gram.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/widen_rows.h"
#include "server/numerics/gram_kernels_internal.h"
#include "server/numerics/instruction_set_internal.h"

namespace moescope::numerics {
namespace {

using internal::kRunPadding;
using internal::kTile;
using internal::RoundUp;

// Sizes below follow from the shape alone, never from the number of threads,
// so that sums are always formed in the same order.

// Elements of all participants that one task works on.
constexpr std::int64_t kChunkElements = std::int64_t{1} << 21;
// Elements of all participants that stay in the second-level cache (512 KiB of
// bf16) while everything asked for is computed from them.
constexpr std::int64_t kBlockElements = std::int64_t{1} << 18;
// Elements of all participants between two additions in fp64, within the
// limits that keep rounding small and the reduction of sums cheap.
constexpr std::int64_t kGramElements = std::int64_t{1} << 16;
constexpr std::int64_t kMinGramRun = 256;
constexpr std::int64_t kMaxGramRun = 4096;
// Bytes of partial sums that are held before they are merged.
constexpr std::int64_t kWaveBytes = std::int64_t{64} << 20;
constexpr std::int64_t kMinWave = 8;
constexpr std::int64_t kMaxWave = 32;

// Partial sums of one chunk of rows. Grams are padded to whole tiles.
struct Partial {
  std::vector<double> gram;                // [P, P]
  std::vector<double> standardised_gram;   // [P, P]
  std::vector<double> column_sums;         // [N, C]
  std::vector<double> column_squares;      // [N, C]
};

void AddTo(std::vector<double>& total, const std::vector<double>& part) {
  for (std::size_t i = 0; i < part.size(); ++i) {
    total[i] += part[i];
  }
}

// Of a dense matrix.
const std::uint8_t* Address(const MatrixView& view, std::int64_t row,
                            std::int64_t col) {
  return static_cast<const std::uint8_t*>(view.data) +
         (row * view.row_stride + col) * ElementSize(view.type);
}

// Whether most of the matrices lie in memory column after column.
bool MostAreTransposed(absl::Span<const MatrixView> views) {
  const auto transposed = std::count_if(
      views.begin(), views.end(),
      [](const MatrixView& v) { return v.row_stride < v.col_stride; });
  return 2 * transposed > static_cast<std::ptrdiff_t>(views.size());
}

// A Gram matrix does not depend on the order of coordinates, and rows and
// columns are symmetric in what is asked for: matrices are read along memory.
GramOptions Transposed(const GramOptions& options) {
  GramOptions other = options;
  std::swap(other.row_norms, other.column_norms);
  std::swap(other.mean_row, other.mean_column);
  return other;
}

GramResult Transposed(GramResult result) {
  std::swap(result.rows, result.cols);
  std::swap(result.row_norms, result.column_norms);
  std::swap(result.mean_row, result.mean_column);
  return result;
}

std::vector<MatrixView> Transposed(absl::Span<const MatrixView> views) {
  std::vector<MatrixView> others;
  for (const MatrixView& view : views) {
    others.push_back(Transposed(view));
  }
  return others;
}

// Dense views of the same block of all participants.
class BlocksReader {
 public:
  explicit BlocksReader(absl::Span<const MatrixView> views)
      : views_(views), readers_(views.size()), blocks_(views.size()) {}

  const std::vector<MatrixView>& Read(const MatrixBlock& block) {
    for (std::size_t n = 0; n < readers_.size(); ++n) {
      blocks_[n] = readers_[n].Read(views_[n], block);
    }
    return blocks_;
  }

 private:
  const absl::Span<const MatrixView> views_;
  std::vector<BlockReader> readers_;
  std::vector<MatrixView> blocks_;
};

class GramRun {
 public:
  GramRun(absl::Span<const MatrixView> participants, const GramOptions& options)
      : views_(participants),
        options_(options),
        n_(static_cast<std::int64_t>(participants.size())),
        padded_(RoundUp(n_, kTile)),
        rows_(participants[0].rows),
        cols_(participants[0].cols),
        gram_run_(std::clamp(kGramElements / padded_ / kRunPadding *
                                 kRunPadding,
                             kMinGramRun, kMaxGramRun)),
        zeros_(static_cast<std::size_t>(gram_run_), 0.0F) {
    native_ = internal::UseNativeBFloat16() &&
              std::all_of(views_.begin(), views_.end(), [](const MatrixView& v) {
                return v.type == ElementType::kBFloat16;
              });
    const std::int64_t row_elements = std::max<std::int64_t>(1, n_ * cols_);
    chunk_rows_ = std::max<std::int64_t>(1, kChunkElements / row_elements);
    block_rows_ = std::max<std::int64_t>(1, kBlockElements / row_elements);
    block_cols_ = cols_;
    if (row_elements > kBlockElements) {
      block_cols_ = std::max<std::int64_t>(
          kMinGramRun, kBlockElements / n_ / kRunPadding * kRunPadding);
    }
  }

  absl::StatusOr<GramResult> Compute(ThreadPool& pool,
                                     const RunContext& context) {
    Prepare();
    const std::int64_t chunks = (rows_ + chunk_rows_ - 1) / chunk_rows_;
    const std::int64_t wave = WaveSize();
    std::vector<Partial> partials(
        static_cast<std::size_t>(std::min(wave, chunks)));
    for (std::int64_t first = 0; first < chunks; first += wave) {
      const std::int64_t count = std::min(wave, chunks - first);
      MOESCOPE_RETURN_IF_ERROR(
          pool.ParallelFor(count, [&](std::int64_t i) {
            absl::Status wanted = context.Check();
            if (wanted.ok()) {
              RunChunk(first + i, partials[static_cast<std::size_t>(i)]);
            }
            return wanted;
          }));
      for (std::int64_t i = 0; i < count; ++i) {
        Merge(partials[static_cast<std::size_t>(i)]);
      }
    }
    Finish();
    return std::move(result_);
  }

 private:
  std::size_t PaddedSquare(bool wanted) const {
    return wanted ? static_cast<std::size_t>(padded_ * padded_) : 0;
  }
  std::size_t PerColumn(bool wanted) const {
    return wanted ? static_cast<std::size_t>(n_ * cols_) : 0;
  }

  void Resize(Partial& partial) const {
    partial.gram.assign(PaddedSquare(options_.gram), 0.0);
    partial.standardised_gram.assign(PaddedSquare(options_.standardised_gram),
                                     0.0);
    partial.column_sums.assign(PerColumn(options_.mean_row), 0.0);
    partial.column_squares.assign(PerColumn(options_.column_norms), 0.0);
  }

  void Prepare() {
    Resize(total_);
    result_.participants = n_;
    result_.rows = rows_;
    result_.cols = cols_;
    const auto per_row = static_cast<std::size_t>(n_ * rows_);
    result_.row_norms.assign(options_.row_norms ? per_row : 0, 0.0);
    result_.mean_column.assign(options_.mean_column ? per_row : 0, 0.0);
  }

  std::int64_t WaveSize() const {
    const std::size_t doubles =
        total_.gram.size() + total_.standardised_gram.size() +
        total_.column_sums.size() + total_.column_squares.size() + 1;
    return std::clamp(kWaveBytes / static_cast<std::int64_t>(8 * doubles),
                      kMinWave, kMaxWave);
  }

  void RunChunk(std::int64_t chunk, Partial& partial) {
    Resize(partial);
    const std::int64_t begin = chunk * chunk_rows_;
    const std::int64_t end = std::min(rows_, begin + chunk_rows_);
    // Widened runs, one cache line apart beyond their length: equal distances
    // of a power of two would fall into the same cache sets.
    std::vector<float> widened(
        static_cast<std::size_t>(n_ * (gram_run_ + kRunPadding)));
    BlocksReader reader(views_);
    for (std::int64_t row = begin; row < end; row += block_rows_) {
      const std::int64_t rows = std::min(block_rows_, end - row);
      for (std::int64_t col = 0; col < cols_; col += block_cols_) {
        const std::int64_t cols = std::min(block_cols_, cols_ - col);
        const std::vector<MatrixView>& blocks =
            reader.Read({row, rows, col, cols});
        AddGrams(blocks, widened, partial);
        AddRows(blocks, row);
        AddColumns(blocks, col, partial);
      }
    }
  }

  // The block as long runs: all of it where rows follow each other in memory.
  void AddGrams(const std::vector<MatrixView>& blocks,
                std::vector<float>& widened, Partial& partial) const {
    if (!options_.gram && !options_.standardised_gram) {
      return;
    }
    const bool whole =
        std::all_of(blocks.begin(), blocks.end(),
                    [](const MatrixView& v) { return v.contiguous(); });
    const std::int64_t runs = whole ? 1 : blocks[0].rows;
    const std::int64_t length = whole ? blocks[0].size() : blocks[0].cols;
    std::vector<const void*> starts(static_cast<std::size_t>(padded_),
                                    zeros_.data());
    for (std::int64_t r = 0; r < runs; ++r) {
      for (std::int64_t t = 0; t < length; t += gram_run_) {
        for (std::size_t n = 0; n < blocks.size(); ++n) {
          starts[n] = Address(blocks[n], r, t);
        }
        AddRun(starts, std::min(gram_run_, length - t), widened, partial);
      }
    }
  }

  void AddRun(const std::vector<const void*>& starts, std::int64_t count,
              std::vector<float>& widened, Partial& partial) const {
    if (options_.gram && native_) {
      internal::AddGramBlockNativeBFloat16(starts, count, partial.gram.data());
      if (!options_.standardised_gram) {
        return;
      }
    }
    const std::int64_t stride = gram_run_ + kRunPadding;
    const std::int64_t length = RoundUp(count, kRunPadding);
    std::vector<const float*> runs(static_cast<std::size_t>(padded_),
                                   zeros_.data());
    for (std::int64_t n = 0; n < n_; ++n) {
      float* const run = widened.data() + n * stride;
      const auto i = static_cast<std::size_t>(n);
      internal::WidenRun(starts[i], DenseType(views_[i].type), count, run);
      runs[i] = run;
    }
    if (options_.gram && !native_) {
      internal::AddGramBlock(runs, length, partial.gram.data());
    }
    if (options_.standardised_gram) {
      internal::StandardiseRuns(widened.data(), stride, n_, length);
      internal::AddGramBlock(runs, length, partial.standardised_gram.data());
    }
  }

  // Rows belong to one chunk each: their sums go straight to the result.
  void AddRows(const std::vector<MatrixView>& blocks, std::int64_t row) {
    if (!options_.row_norms && !options_.mean_column) {
      return;
    }
    for (std::size_t n = 0; n < blocks.size(); ++n) {
      const MatrixView& block = blocks[n];
      for (std::int64_t r = 0; r < block.rows; ++r) {
        const internal::SumAndSquares part =
            internal::SumRow(Address(block, r, 0), block.type, block.cols);
        const std::size_t at =
            n * static_cast<std::size_t>(rows_) +
            static_cast<std::size_t>(row + r);
        if (options_.row_norms) {
          result_.row_norms[at] += part.squares;
        }
        if (options_.mean_column) {
          result_.mean_column[at] += part.sum;
        }
      }
    }
  }

  void AddColumns(const std::vector<MatrixView>& blocks, std::int64_t col,
                  Partial& partial) const {
    if (!options_.column_norms && !options_.mean_row) {
      return;
    }
    for (std::int64_t n = 0; n < n_; ++n) {
      const std::int64_t at = n * cols_ + col;
      internal::AddColumns(
          blocks[static_cast<std::size_t>(n)],
          options_.mean_row ? partial.column_sums.data() + at : nullptr,
          options_.column_norms ? partial.column_squares.data() + at : nullptr);
    }
  }

  void Merge(const Partial& partial) {
    AddTo(total_.gram, partial.gram);
    AddTo(total_.standardised_gram, partial.standardised_gram);
    AddTo(total_.column_sums, partial.column_sums);
    AddTo(total_.column_squares, partial.column_squares);
  }

  // The upper triangle of the padded sums as a full matrix.
  std::vector<double> Symmetric(const std::vector<double>& padded) const {
    std::vector<double> full;
    if (padded.empty()) {
      return full;
    }
    full.resize(static_cast<std::size_t>(n_ * n_));
    for (std::int64_t i = 0; i < n_; ++i) {
      for (std::int64_t j = 0; j < n_; ++j) {
        full[static_cast<std::size_t>(i * n_ + j)] =
            padded[static_cast<std::size_t>(std::min(i, j) * padded_ +
                                            std::max(i, j))];
      }
    }
    return full;
  }

  void Finish() {
    const auto square_root = [](double& x) { x = std::sqrt(x); };
    result_.gram = Symmetric(total_.gram);
    result_.standardised_gram = Symmetric(total_.standardised_gram);
    std::for_each(result_.row_norms.begin(), result_.row_norms.end(),
                  square_root);
    result_.column_norms = std::move(total_.column_squares);
    std::for_each(result_.column_norms.begin(), result_.column_norms.end(),
                  square_root);
    result_.mean_row = std::move(total_.column_sums);
    for (double& x : result_.mean_row) {
      x = rows_ == 0 ? 0.0 : x / static_cast<double>(rows_);
    }
    for (double& x : result_.mean_column) {
      x = cols_ == 0 ? 0.0 : x / static_cast<double>(cols_);
    }
    for (std::int64_t n = 0; n < n_; ++n) {
      const auto i = static_cast<std::size_t>(n);
      result_.nonfinite.push_back(
          MayHaveNonfinite(n) ? CountNonfinite(views_[i]) : 0);
    }
  }

  // Whether a second look is needed: any sum that a non-finite element enters
  // is itself non-finite.
  bool MayHaveNonfinite(std::int64_t n) const {
    if (options_.gram) {
      return !std::isfinite(
          result_.gram[static_cast<std::size_t>(n * n_ + n)]);
    }
    const std::vector<double>* const sums[] = {
        &result_.row_norms, &result_.column_norms, &result_.mean_row,
        &result_.mean_column, &result_.standardised_gram};
    for (const std::vector<double>* values : sums) {
      if (!values->empty()) {
        return !std::all_of(values->begin(), values->end(),
                            [](double x) { return std::isfinite(x); });
      }
    }
    return true;
  }

  static std::int64_t CountNonfinite(const MatrixView& view) {
    constexpr std::int64_t kRows = 64;
    std::vector<float> rows(
        static_cast<std::size_t>(std::min(kRows, view.rows) * view.cols));
    std::int64_t count = 0;
    for (std::int64_t r = 0; r < view.rows; r += kRows) {
      const std::int64_t read = std::min(kRows, view.rows - r);
      WidenRows(view, r, read, rows.data());
      count += std::count_if(rows.begin(), rows.begin() + read * view.cols,
                             [](float x) { return !std::isfinite(x); });
    }
    return count;
  }

  const absl::Span<const MatrixView> views_;
  const GramOptions options_;
  const std::int64_t n_;
  const std::int64_t padded_;
  const std::int64_t rows_;
  const std::int64_t cols_;
  const std::int64_t gram_run_;
  const std::vector<float> zeros_;
  std::int64_t chunk_rows_ = 0;
  std::int64_t block_rows_ = 0;
  std::int64_t block_cols_ = 0;
  bool native_ = false;
  Partial total_;
  GramResult result_;
};

absl::Status CheckViews(absl::Span<const MatrixView> participants) {
  if (participants.empty()) {
    return InvalidField("participants", "is empty, at least 1 is needed");
  }
  const MatrixView& first = participants[0];
  for (std::size_t i = 0; i < participants.size(); ++i) {
    const MatrixView& view = participants[i];
    const std::string field = absl::StrCat("participants[", i, "]");
    if (view.rows != first.rows || view.cols != first.cols) {
      return InvalidField(
          field, absl::StrCat("has shape [", view.rows, ", ", view.cols,
                              "], participants[0] has [", first.rows, ", ",
                              first.cols, "]"));
    }
    MOESCOPE_RETURN_IF_ERROR(CheckView(field, view));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GramResult> ComputeGram(
    absl::Span<const MatrixView> participants, const GramOptions& options,
    ThreadPool& pool, const RunContext& context) {
  MOESCOPE_RETURN_IF_ERROR(CheckViews(participants));
  if (MostAreTransposed(participants)) {
    const std::vector<MatrixView> views = Transposed(participants);
    MOESCOPE_ASSIGN_OR_RETURN(
        GramResult result,
        GramRun(views, Transposed(options)).Compute(pool, context));
    return Transposed(std::move(result));
  }
  return GramRun(participants, options).Compute(pool, context);
}

}  // namespace moescope::numerics
