#include "moescope/numerics/gram.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/free_list.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/widen_rows.h"
#include "server/numerics/gram_blocks_internal.h"
#include "server/numerics/gram_kernels_internal.h"
#include "server/numerics/instruction_set_internal.h"
#include "server/numerics/ordered_merge_internal.h"

namespace moescope::numerics {
namespace {

using internal::BlocksReader;
using internal::GramBuffers;
using internal::GramSums;
using internal::kBlockRows;
using internal::kRunPadding;
using internal::kSumRows;
using internal::kTile;
using internal::RoundUp;

// Partial sums that are held until those before them have been merged: as many
// as a thread needs not to wait for the others, within bounds.
constexpr std::int64_t kPartialsPerThread = 4;
constexpr std::int64_t kPartialBytes = std::int64_t{64} << 20;
constexpr std::int64_t kMinPartials = 8;
constexpr std::int64_t kMaxPartials = 32;

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

class GramRun {
 public:
  GramRun(absl::Span<const MatrixView> participants,
          absl::Span<const int> exponents, const GramOptions& options)
      : views_(participants),
        exponents_(exponents),
        options_(options),
        n_(static_cast<std::int64_t>(participants.size())),
        padded_(RoundUp(n_, kTile)),
        differences_(RoundUp(n_ - 1, kTile)),
        rows_(participants[0].rows),
        cols_(participants[0].cols),
        sizes_(n_, cols_),
        zeros_(static_cast<std::size_t>(sizes_.stride), 0.0F) {
    native_ = internal::UseNativeBFloat16() && exponents_.empty() &&
              std::all_of(views_.begin(), views_.end(), [](const MatrixView& v) {
                return v.type == ElementType::kBFloat16;
              });
    for (const MatrixView& view : views_) {
      types_.push_back(exponents_.empty() ? DenseType(view.type)
                                          : ElementType::kFloat32);
    }
    const ElementType first = types_[0];
    mixed_ = std::any_of(types_.begin(), types_.end(),
                         [first](ElementType type) { return type != first; });
    standardised_type_ = mixed_ ? ElementType::kFloat32 : first;
    const bool rows_and_means = options_.row_norms || options_.mean_row;
    const bool columns_and_means = options_.column_norms || options_.mean_column;
    row_squares_ = rows_and_means && !columns_and_means;
    column_squares_ = columns_and_means && !rows_and_means;
  }

  absl::StatusOr<GramResult> Compute(ThreadPool& pool,
                                     const RunContext& context) {
    Prepare();
    const std::int64_t chunks = (rows_ + sizes_.chunk_rows - 1) / sizes_.chunk_rows;
    internal::OrderedMerge<GramSums> merge(
        std::min(PartialSums(), kPartialsPerThread * pool.num_threads()),
        [this](const GramSums& partial) { Merge(partial); });
    const auto run = [&](std::int64_t chunk) {
      return merge.Run(chunk, [&](GramSums& partial) {
        absl::Status wanted = context.Check();
        if (wanted.ok()) {
          RunChunk(chunk, partial);
        }
        return wanted;
      });
    };
    MOESCOPE_RETURN_IF_ERROR(pool.ParallelFor(chunks, run));
    Finish();
    MOESCOPE_RETURN_IF_ERROR(CountAllNonfinite(pool, context));
    KeepWhatWasAsked();
    return std::move(result_);
  }

 private:
  void Resize(GramSums& sums) const {
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

  std::int64_t PartialSums() const {
    const std::size_t doubles =
        total_.gram.size() + total_.standardised_gram.size() +
        total_.column_sums.size() + total_.column_squares.size() + 1;
    return std::clamp(kPartialBytes / static_cast<std::int64_t>(8 * doubles),
                      kMinPartials, kMaxPartials);
  }

  void RunChunk(std::int64_t chunk, GramSums& partial) {
    Resize(partial);
    const std::int64_t begin = chunk * sizes_.chunk_rows;
    const std::int64_t end = std::min(rows_, begin + sizes_.chunk_rows);
    std::unique_ptr<GramBuffers> taken = buffers_.Take();
    GramBuffers& buffers = *taken;
    PrepareBuffers(partial, buffers);
    BlocksReader reader(views_, exponents_);
    for (std::int64_t row = begin; row < end; row += kBlockRows) {
      const std::int64_t rows = std::min(kBlockRows, end - row);
      for (std::int64_t col = 0; col < cols_; col += sizes_.block_cols) {
        const std::int64_t cols = std::min(sizes_.block_cols, cols_ - col);
        const std::vector<MatrixView>& blocks =
            reader.Read({row, rows, col, cols});
        AddGrams(blocks, Ahead(blocks[0], col), buffers, partial);
        AddSides(blocks, row, col, buffers, partial);
      }
    }
    buffers_.Return(std::move(taken));
  }

  // Lanes and sums of columns are zero again at the end of a chunk.
  void PrepareBuffers(const GramSums& partial, GramBuffers& buffers) const {
    buffers.starts.assign(static_cast<std::size_t>(padded_), zeros_.data());
    if (buffers.widened.data() != nullptr) {
      return;
    }
    buffers.widened.Resize(n_ * sizes_.stride);
    buffers.standardised.Resize(n_ * sizes_.stride);
    buffers.scratch.Resize(n_ * 2 * kRunPadding);
    if (sizes_.part < sizes_.gram_run) {
      buffers.gram_lanes.Resize(internal::GramLanes(padded_));
      buffers.standardised_lanes.Resize(internal::GramLanes(padded_));
    }
    buffers.column_sums.resize(partial.column_sums.size());
    buffers.column_squares.resize(partial.column_squares.size());
  }

  // Bytes from a row of a block to the same row of the next one in memory: beside
  // it or, after the last columns, in the next strip.
  std::int64_t Ahead(const MatrixView& block, std::int64_t col) const {
    const std::int64_t elements =
        col + block.cols < cols_
            ? block.cols
            : kBlockRows * block.row_stride - (cols_ - block.cols);
    return elements * ElementSize(block.type);
  }

  // The block as long runs: all of it where rows follow each other in memory.
  void AddGrams(const std::vector<MatrixView>& blocks, std::int64_t ahead,
                GramBuffers& buffers, GramSums& partial) const {
    if (!options_.gram && !options_.standardised_gram) {
      return;
    }
    const bool whole =
        std::all_of(blocks.begin(), blocks.end(),
                    [](const MatrixView& v) { return v.contiguous(); });
    const std::int64_t runs = whole ? 1 : blocks[0].rows;
    const std::int64_t length = whole ? blocks[0].size() : blocks[0].cols;
    std::int64_t in_lanes = 0;
    for (std::int64_t r = 0; r < runs; ++r) {
      for (std::int64_t t = 0; t < length; t += sizes_.part) {
        const std::int64_t count = std::min(sizes_.part, length - t);
        if (in_lanes + count > sizes_.gram_run) {
          MoveLanes(buffers, partial);
          in_lanes = 0;
        }
        in_lanes += count;
        for (std::size_t n = 0; n < blocks.size(); ++n) {
          buffers.starts[n] = Address(blocks[n], r, t);
        }
        AddRun(count, ahead, buffers, partial);
      }
    }
    MoveLanes(buffers, partial);
  }

  // Of the run that begins at buffers.starts.
  void AddRun(std::int64_t count, std::int64_t ahead, GramBuffers& buffers,
              GramSums& partial) const {
    if (options_.gram && native_) {
      internal::AddGramBlockNativeBFloat16(
          buffers.starts, count, options_.standardised_gram ? 0 : ahead,
          buffers.gram_lanes.data(), partial.gram.data());
    }
    if ((options_.gram && !native_) || mixed_) {
      buffers.runs.clear();
      for (std::int64_t n = 0; n < n_; ++n) {
        float* const run = buffers.widened.data() + n * sizes_.stride;
        const auto i = static_cast<std::size_t>(n);
        internal::WidenRun(buffers.starts[i], types_[i], count, ahead, run);
        buffers.runs.push_back(run);
      }
      if (options_.gram && !native_) {
        internal::AddGramBlock(buffers.runs, RoundUp(count, kRunPadding),
                               buffers.gram_lanes.data(), padded_,
                               partial.gram.data());
      }
    }
    if (options_.standardised_gram && n_ > 1) {
      AddStandardised(count, ahead, buffers, partial);
    }
  }

  void MoveLanes(GramBuffers& buffers, GramSums& partial) const {
    if (buffers.gram_lanes.data() == nullptr) {
      return;
    }
    if (options_.gram && native_) {
      internal::MoveGramLanesNativeBFloat16(padded_, buffers.gram_lanes.data(),
                                            partial.gram.data());
    } else if (options_.gram) {
      internal::MoveGramLanes(n_, buffers.gram_lanes.data(), padded_,
                              partial.gram.data());
    }
    if (options_.standardised_gram) {
      internal::MoveGramLanes(n_ - 1, buffers.standardised_lanes.data(),
                              differences_, partial.standardised_gram.data());
    }
  }

  void AddStandardised(std::int64_t count, std::int64_t ahead,
                       GramBuffers& buffers, GramSums& partial) const {
    for (std::int64_t n = 0; mixed_ && n < n_; ++n) {
      buffers.starts[static_cast<std::size_t>(n)] =
          buffers.widened.data() + n * sizes_.stride;
    }
    float* const out = buffers.standardised.data();
    internal::Standardise(absl::MakeConstSpan(buffers.starts)
                              .first(static_cast<std::size_t>(n_)),
                          standardised_type_, count, ahead,
                          buffers.scratch.data(), out, sizes_.stride);
    buffers.runs.clear();
    for (std::int64_t n = 0; n + 1 < n_; ++n) {
      buffers.runs.push_back(out + n * sizes_.stride);
    }
    internal::AddGramBlock(buffers.runs, RoundUp(count, 2 * kRunPadding),
                           buffers.standardised_lanes.data(), differences_,
                           partial.standardised_gram.data());
  }

  // Norms and means, by as many rows as are summed in fp32.
  void AddSides(const std::vector<MatrixView>& blocks, std::int64_t row,
                std::int64_t col, GramBuffers& buffers, GramSums& partial) {
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
                    std::int64_t col, GramBuffers& buffers) {
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
                  GramBuffers& buffers) const {
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

  void Merge(const GramSums& partial) {
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
  }

  absl::Status CountAllNonfinite(ThreadPool& pool, const RunContext& context) {
    for (std::int64_t n = 0; n < n_; ++n) {
      std::int64_t count = 0;
      if (MayHaveNonfinite(n)) {
        MOESCOPE_ASSIGN_OR_RETURN(
            count, CountNonfinite(views_[static_cast<std::size_t>(n)], pool,
                                  context));
      }
      result_.nonfinite.push_back(count);
    }
    return absl::OkStatus();
  }

  // And not what came along with it.
  void KeepWhatWasAsked() {
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
  const absl::Span<const int> exponents_;
  const GramOptions options_;
  const std::int64_t n_;
  const std::int64_t padded_;
  const std::int64_t differences_;
  const std::int64_t rows_;
  const std::int64_t cols_;
  const internal::GramSizes sizes_;
  const std::vector<float> zeros_;
  std::vector<ElementType> types_;  // Of blocks as they are read. [N]
  bool native_ = false;
  bool mixed_ = false;
  bool row_squares_ = false;     // with sums of columns
  bool column_squares_ = false;  // with sums of rows
  ElementType standardised_type_ = ElementType::kFloat32;
  FreeList<GramBuffers> buffers_;
  GramSums total_;
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
    absl::Span<const MatrixView> participants, absl::Span<const int> exponents,
    const GramOptions& options, ThreadPool& pool, const RunContext& context) {
  MOESCOPE_RETURN_IF_ERROR(CheckViews(participants));
  if (MostAreTransposed(participants)) {
    const std::vector<MatrixView> views = Transposed(participants);
    MOESCOPE_ASSIGN_OR_RETURN(
        GramResult result,
        GramRun(views, exponents, Transposed(options)).Compute(pool, context));
    return Transposed(std::move(result));
  }
  return GramRun(participants, exponents, options).Compute(pool, context);
}

}  // namespace moescope::numerics
