#include "moescope/numerics/gram.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
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
// Rows whose columns are summed in fp32, at most; whole strips of the kernels.
// Counted from the first row and never cut by a larger block, so that the sums do
// not depend on the number of participants. Nearly equal experts differ by so
// little that more roundings would show.
constexpr std::int64_t kSumRows = 32;
// Elements of all participants between two additions in fp64, within the
// limits that keep rounding small and the reduction of sums cheap.
constexpr std::int64_t kGramElements = std::int64_t{1} << 16;
constexpr std::int64_t kMinGramRun = 256;
constexpr std::int64_t kMaxGramRun = 4096;
// Bytes of partial sums that are held before they are merged.
constexpr std::int64_t kWaveBytes = std::int64_t{64} << 20;
constexpr std::int64_t kMinWave = 8;
constexpr std::int64_t kMaxWave = 32;

constexpr std::int64_t kMaxChunkRows = 2048;

// Partial sums of one chunk of rows. Grams are padded to whole tiles; the
// standardised one is of the differences of participants 1, 2, … from the first.
struct Sums {
  std::vector<double> gram;               // [P, P]
  std::vector<double> standardised_gram;  // [Q, Q], Q = N - 1 padded
  std::vector<double> column_sums;        // [N, C]
  std::vector<double> column_squares;     // [N, C]
};

struct Buffers {
  // Runs of all participants, rows of a stride.
  std::vector<float> widened;
  std::vector<float> standardised;
  std::vector<float> scratch;
  // Sums over fewer than kSumRows rows, not yet in those of the chunk. [N, C]
  std::vector<float> column_sums;
  std::vector<float> column_squares;
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
        differences_(RoundUp(n_ - 1, kTile)),
        rows_(participants[0].rows),
        cols_(participants[0].cols),
        gram_run_(std::clamp(kGramElements / padded_ / kRunPadding *
                                 kRunPadding,
                             kMinGramRun, kMaxGramRun)),
        stride_(gram_run_ + 3 * kRunPadding),
        zeros_(static_cast<std::size_t>(stride_), 0.0F) {
    native_ = internal::UseNativeBFloat16() &&
              std::all_of(views_.begin(), views_.end(), [](const MatrixView& v) {
                return v.type == ElementType::kBFloat16;
              });
    const ElementType first = DenseType(views_[0].type);
    mixed_ = std::any_of(views_.begin(), views_.end(),
                         [first](const MatrixView& v) {
                           return DenseType(v.type) != first;
                         });
    standardised_type_ = mixed_ ? ElementType::kFloat32 : first;
    const bool rows_and_means = options_.row_norms || options_.mean_row;
    const bool columns_and_means = options_.column_norms || options_.mean_column;
    row_squares_ = rows_and_means && !columns_and_means;
    column_squares_ = columns_and_means && !rows_and_means;
    const std::int64_t row_elements = std::max<std::int64_t>(1, n_ * cols_);
    chunk_rows_ = RoundUp(std::clamp<std::int64_t>(
                              kChunkElements / row_elements, 1, kMaxChunkRows),
                          kSumRows);
    // Fewer rows than are summed divide them, more are a multiple.
    const std::int64_t fitting = kBlockElements / row_elements;
    block_rows_ = 1;
    while (block_rows_ < kSumRows && 2 * block_rows_ <= fitting) {
      block_rows_ *= 2;
    }
    block_rows_ = std::max(block_rows_, fitting / kSumRows * kSumRows);
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
    std::vector<Sums> partials(
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
  void Resize(Sums& sums) const {
    const auto square = [](bool wanted, std::int64_t side) {
      return wanted ? static_cast<std::size_t>(side * side) : 0;
    };
    const auto columns = static_cast<std::size_t>(n_ * cols_);
    sums.gram.assign(square(options_.gram, padded_), 0.0);
    sums.standardised_gram.assign(
        square(options_.standardised_gram, differences_), 0.0);
    sums.column_sums.assign(options_.mean_row || row_squares_ ? columns : 0,
                            0.0);
    sums.column_squares.assign(
        options_.column_norms || column_squares_ ? columns : 0, 0.0);
  }

  void Prepare() {
    Resize(total_);
    result_.participants = n_;
    result_.rows = rows_;
    result_.cols = cols_;
    const auto per_row = static_cast<std::size_t>(n_ * rows_);
    result_.row_norms.assign(options_.row_norms || row_squares_ ? per_row : 0,
                             0.0);
    result_.mean_column.assign(
        options_.mean_column || column_squares_ ? per_row : 0, 0.0);
  }

  std::int64_t WaveSize() const {
    const std::size_t doubles =
        total_.gram.size() + total_.standardised_gram.size() +
        total_.column_sums.size() + total_.column_squares.size() + 1;
    return std::clamp(kWaveBytes / static_cast<std::int64_t>(8 * doubles),
                      kMinWave, kMaxWave);
  }

  void RunChunk(std::int64_t chunk, Sums& partial) {
    Resize(partial);
    const std::int64_t begin = chunk * chunk_rows_;
    const std::int64_t end = std::min(rows_, begin + chunk_rows_);
    // Widened runs, one cache line apart beyond their length: equal distances
    // of a power of two would fall into the same cache sets.
    Buffers buffers;
    buffers.widened.resize(static_cast<std::size_t>(n_ * stride_));
    buffers.standardised = buffers.widened;
    buffers.scratch.resize(static_cast<std::size_t>(n_ * 2 * kRunPadding));
    buffers.column_sums.resize(partial.column_sums.size());
    buffers.column_squares.resize(partial.column_squares.size());
    BlocksReader reader(views_);
    for (std::int64_t row = begin; row < end; row += block_rows_) {
      const std::int64_t rows = std::min(block_rows_, end - row);
      for (std::int64_t col = 0; col < cols_; col += block_cols_) {
        const std::int64_t cols = std::min(block_cols_, cols_ - col);
        const std::vector<MatrixView>& blocks =
            reader.Read({row, rows, col, cols});
        AddGrams(blocks, buffers, partial);
        AddSides(blocks, row, col, buffers, partial);
      }
    }
  }

  // The block as long runs: all of it where rows follow each other in memory.
  void AddGrams(const std::vector<MatrixView>& blocks,
                Buffers& buffers, Sums& partial) const {
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
        AddRun(starts, std::min(gram_run_, length - t), buffers, partial);
      }
    }
  }

  void AddRun(const std::vector<const void*>& starts, std::int64_t count,
              Buffers& buffers, Sums& partial) const {
    if (options_.gram && native_) {
      internal::AddGramBlockNativeBFloat16(
          starts, count, !options_.standardised_gram, partial.gram.data());
    }
    if ((options_.gram && !native_) || mixed_) {
      std::vector<const float*> runs(static_cast<std::size_t>(n_));
      for (std::int64_t n = 0; n < n_; ++n) {
        float* const run = buffers.widened.data() + n * stride_;
        const auto i = static_cast<std::size_t>(n);
        internal::WidenRun(starts[i], DenseType(views_[i].type), count, run);
        runs[i] = run;
      }
      if (options_.gram && !native_) {
        internal::AddGramBlock(runs, RoundUp(count, kRunPadding), padded_,
                               partial.gram.data());
      }
    }
    if (options_.standardised_gram && n_ > 1) {
      AddStandardised(starts, count, buffers, partial);
    }
  }

  void AddStandardised(const std::vector<const void*>& starts,
                       std::int64_t count, Buffers& buffers,
                       Sums& partial) const {
    std::vector<const void*> sources(starts.begin(), starts.begin() + n_);
    for (std::int64_t n = 0; mixed_ && n < n_; ++n) {
      sources[static_cast<std::size_t>(n)] =
          buffers.widened.data() + n * stride_;
    }
    float* const out = buffers.standardised.data();
    internal::Standardise(sources, standardised_type_, count,
                          buffers.scratch.data(), out, stride_);
    std::vector<const float*> runs;
    for (std::int64_t n = 0; n + 1 < n_; ++n) {
      runs.push_back(out + n * stride_);
    }
    internal::AddGramBlock(runs, RoundUp(count, 2 * kRunPadding), differences_,
                           partial.standardised_gram.data());
  }

  // Norms and means, by as many rows as are summed in fp32.
  void AddSides(const std::vector<MatrixView>& blocks, std::int64_t row,
                std::int64_t col, Buffers& buffers, Sums& partial) {
    const std::int64_t end = row + blocks[0].rows;
    const std::int64_t cols = blocks[0].cols;
    for (std::int64_t first = row; first < end; first += kSumRows) {
      const std::int64_t last = std::min(end, first + kSumRows);
      std::vector<MatrixView> parts = blocks;
      for (MatrixView& part : parts) {
        part.data = Address(part, first - row, 0);
        part.rows = last - first;
      }
      if (!AddBothSides(parts, first, col, buffers)) {
        AddRows(parts, first);
        AddColumns(parts, col, buffers);
      }
      if (last % kSumRows == 0 || last == rows_) {
        MoveColumns(col, cols, buffers.column_sums, partial.column_sums);
        MoveColumns(col, cols, buffers.column_squares, partial.column_squares);
      }
    }
  }

  // Adds columns [col, col + cols) of every participant to `total` and clears
  // them; nothing where they were not asked for.
  void MoveColumns(std::int64_t col, std::int64_t cols, std::vector<float>& part,
                   std::vector<double>& total) const {
    for (std::int64_t n = 0; n < n_ && !part.empty(); ++n) {
      internal::MoveSums(part.data() + n * cols_ + col, cols,
                         total.data() + n * cols_ + col);
    }
  }

  // Squares of one side and sums of the other, each element looked at once;
  // false when more is wanted. What alone is wanted is computed in this way,
  // too, so that it has the same bits.
  bool AddBothSides(const std::vector<MatrixView>& blocks, std::int64_t row,
                    std::int64_t col, Buffers& buffers) {
    if (!row_squares_ && !column_squares_) {
      return false;
    }
    for (std::int64_t n = 0; n < n_; ++n) {
      const MatrixView& block = blocks[static_cast<std::size_t>(n)];
      const std::int64_t at = n * cols_ + col;
      const std::int64_t row_at = n * rows_ + row;
      if (row_squares_) {
        const auto add = native_
                             ? internal::AddRowSquaresAndColumnSumsNativeBFloat16
                             : internal::AddRowSquaresAndColumnSums;
        add(block, buffers.column_sums.data() + at,
            result_.row_norms.data() + row_at);
      } else {
        const auto add = native_
                             ? internal::AddRowSumsAndColumnSquaresNativeBFloat16
                             : internal::AddRowSumsAndColumnSquares;
        add(block, buffers.column_squares.data() + at,
            result_.mean_column.data() + row_at);
      }
    }
    return true;
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
                  Buffers& buffers) const {
    if (!options_.column_norms && !options_.mean_row) {
      return;
    }
    for (std::int64_t n = 0; n < n_; ++n) {
      const std::int64_t at = n * cols_ + col;
      internal::AddColumns(
          blocks[static_cast<std::size_t>(n)],
          options_.mean_row ? buffers.column_sums.data() + at : nullptr,
          options_.column_norms ? buffers.column_squares.data() + at : nullptr);
    }
  }

  void Merge(const Sums& partial) {
    AddTo(total_.gram, partial.gram);
    AddTo(total_.standardised_gram, partial.standardised_gram);
    AddTo(total_.column_sums, partial.column_sums);
    AddTo(total_.column_squares, partial.column_squares);
  }

  // Entry [i, j] of a symmetric matrix of which `sums` holds the upper half.
  static double Entry(const std::vector<double>& sums, std::int64_t side,
                      std::int64_t i, std::int64_t j) {
    return sums[static_cast<std::size_t>(std::min(i, j) * side +
                                         std::max(i, j))];
  }

  std::vector<double> FullGram() const {
    std::vector<double> full;
    for (std::int64_t i = 0; i < n_ && options_.gram; ++i) {
      for (std::int64_t j = 0; j < n_; ++j) {
        full.push_back(Entry(total_.gram, padded_, i, j));
      }
    }
    return full;
  }

  // The Gram of differences from the first participant, centred: what is common
  // to all participants in a coordinate falls out.
  std::vector<double> CentredGram() const {
    if (!options_.standardised_gram) {
      return {};
    }
    const auto entry = [this](std::int64_t i, std::int64_t j) {
      return i == 0 || j == 0 ? 0.0
                              : Entry(total_.standardised_gram, differences_,
                                      i - 1, j - 1);
    };
    std::vector<double> means(static_cast<std::size_t>(n_), 0.0);
    double mean = 0;
    for (std::int64_t i = 0; i < n_; ++i) {
      for (std::int64_t j = 0; j < n_; ++j) {
        means[static_cast<std::size_t>(i)] +=
            entry(i, j) / static_cast<double>(n_);
      }
      mean += means[static_cast<std::size_t>(i)] / static_cast<double>(n_);
    }
    std::vector<double> full;
    for (std::int64_t i = 0; i < n_; ++i) {
      for (std::int64_t j = 0; j < n_; ++j) {
        // The same bits for [i, j] and [j, i].
        const double row = means[static_cast<std::size_t>(std::min(i, j))];
        const double col = means[static_cast<std::size_t>(std::max(i, j))];
        full.push_back(entry(i, j) - row - col + mean);
      }
    }
    return full;
  }

  void Finish() {
    const auto square_root = [](double& x) { x = std::sqrt(x); };
    result_.gram = FullGram();
    result_.standardised_gram = CentredGram();
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
    // What came along with what was asked for.
    const auto keep = [](bool asked, std::vector<double>& values) {
      if (!asked) {
        values.clear();
      }
    };
    keep(options_.row_norms, result_.row_norms);
    keep(options_.column_norms, result_.column_norms);
    keep(options_.mean_row, result_.mean_row);
    keep(options_.mean_column, result_.mean_column);
    if (n_ == 1 && options_.standardised_gram && result_.nonfinite[0] > 0) {
      result_.standardised_gram[0] = std::numeric_limits<double>::quiet_NaN();
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
        &result_.mean_column};
    for (const std::vector<double>* values : sums) {
      if (!values->empty()) {
        return !std::all_of(values->begin(), values->end(),
                            [](double x) { return std::isfinite(x); });
      }
    }
    // A single participant is not even read for its standardised Gram.
    return n_ == 1 || result_.standardised_gram.empty() ||
           !std::isfinite(result_.standardised_gram[0]);
  }

  const absl::Span<const MatrixView> views_;
  const GramOptions options_;
  const std::int64_t n_;
  const std::int64_t padded_;
  const std::int64_t differences_;
  const std::int64_t rows_;
  const std::int64_t cols_;
  const std::int64_t gram_run_;
  const std::int64_t stride_;
  const std::vector<float> zeros_;
  std::int64_t chunk_rows_ = 0;
  std::int64_t block_rows_ = 0;
  std::int64_t block_cols_ = 0;
  bool native_ = false;
  bool mixed_ = false;
  bool row_squares_ = false;     // with sums of columns
  bool column_squares_ = false;  // with sums of rows
  ElementType standardised_type_ = ElementType::kFloat32;
  Sums total_;
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

absl::StatusOr<GramResult> internal::ComputePlainGram(
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
