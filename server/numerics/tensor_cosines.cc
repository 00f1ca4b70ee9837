#include "server/numerics/tensor_cosines_internal.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/widen_rows.h"
#include "server/numerics/tensor_copies_internal.h"
#include "server/numerics/tensor_costs_internal.h"

namespace moescope::numerics::internal {
namespace {

// Rows that a thread copies at once.
constexpr std::int64_t kStagedRows = 64;

at::ScalarType ToScalarType(ElementType type) {
  switch (type) {
    case ElementType::kBFloat16:
      return at::kBFloat16;
    case ElementType::kFloat16:
      return at::kHalf;
    default:
      return at::kFloat;
  }
}

// Blocks of neurons on their way to a device.
class NeuronLoader {
 public:
  NeuronLoader(const at::Device& device, ThreadPool& pool,
               const RunContext& context)
      : device_(device), pool_(pool), context_(context) {}

  // Neurons first … first + out.size(0) of `view` at length 1. out: fp32 [n, D]
  absl::Status Load(const MatrixView& view, std::int64_t first,
                    const at::Tensor& out) {
    const std::int64_t count = out.size(0);
    // As they lie together in memory: neurons may be columns.
    const bool turned = view.col_stride != 1 && view.row_stride == 1;
    const MatrixBlock block =
        turned ? MatrixBlock{0, view.cols, first, count}
               : MatrixBlock{first, count, 0, view.cols};
    MOESCOPE_RETURN_IF_ERROR(
        Stage(turned ? Transposed(view) : view, block));
    const at::Tensor stored = staged_.to(device_, /*non_blocking=*/true);
    out.copy_(turned ? stored.t() : stored);
    const at::Tensor norms =
        at::norm(out, 2, {1}, /*keepdim=*/true, at::kDouble);
    // Waits until the block has arrived: its place on the host is free again.
    const std::vector<double> lengths = ToHost<double>(norms);
    const auto wrong =
        std::find_if(lengths.begin(), lengths.end(),
                     [](double length) { return !std::isfinite(length); });
    if (wrong != lengths.end()) {
      return InvalidField("pairs",
                          absl::StrCat("neuron ",
                                       first + (wrong - lengths.begin()),
                                       " is not finite"));
    }
    // Zero neurons stay as they are. In fp64, which has the inverse of any
    // length.
    out.div_(norms.add(norms.eq(0)));
    return absl::OkStatus();
  }

 private:
  // Into memory that a GPU reads by itself.
  absl::Status Stage(const MatrixView& view, const MatrixBlock& block) {
    const bool dense = IsDense(view);
    staged_ = at::empty(
        {block.rows, block.cols},
        at::TensorOptions()
            .dtype(dense ? ToScalarType(view.type) : at::kFloat)
            .pinned_memory(!device_.is_cpu()));
    auto* const out = static_cast<std::byte*>(staged_.data_ptr());
    const auto row_bytes = static_cast<std::int64_t>(
        staged_.element_size() * static_cast<std::size_t>(block.cols));
    const auto stage = [&](std::int64_t task) -> absl::Status {
      MOESCOPE_RETURN_IF_ERROR(context_.Check());
      const std::int64_t begin = task * kStagedRows;
      const std::int64_t rows = std::min(kStagedRows, block.rows - begin);
      std::byte* const to = out + begin * row_bytes;
      const MatrixBlock part = {block.row + begin, rows, block.col, block.cols};
      if (dense) {
        CopyRows(view, part, row_bytes, to);
      } else {
        WidenBlock(view, part, reinterpret_cast<float*>(to), block.cols);
      }
      return absl::OkStatus();
    };
    return pool_.ParallelFor((block.rows + kStagedRows - 1) / kStagedRows,
                             stage);
  }

  static void CopyRows(const MatrixView& view, const MatrixBlock& block,
                       std::int64_t row_bytes, std::byte* out) {
    const std::int64_t size = ElementSize(view.type);
    const auto* const from = static_cast<const std::byte*>(view.data);
    for (std::int64_t r = 0; r < block.rows; ++r) {
      std::memcpy(out + r * row_bytes,
                  from + ((block.row + r) * view.row_stride + block.col) * size,
                  static_cast<std::size_t>(row_bytes));
    }
  }

  const at::Device device_;
  ThreadPool& pool_;
  const RunContext& context_;
  at::Tensor staged_;
};

absl::Status AddCosines(const NeuronPair& pair, bool is_first,
                        std::int64_t block_rows, NeuronLoader& loader,
                        const at::Tensor& sums) {
  const std::int64_t size = sums.size(0);
  const at::Tensor right =
      at::empty({size, pair.right.cols}, sums.options());
  for (std::int64_t row = 0; row < size; row += block_rows) {
    MOESCOPE_RETURN_IF_ERROR(
        loader.Load(pair.right, row,
                    right.narrow(0, row, std::min(block_rows, size - row))));
  }
  const at::Tensor left = at::empty(
      {std::min(block_rows, size), pair.left.cols}, sums.options());
  for (std::int64_t row = 0; row < size; row += block_rows) {
    const std::int64_t rows = std::min(block_rows, size - row);
    const at::Tensor block = left.narrow(0, 0, rows);
    MOESCOPE_RETURN_IF_ERROR(loader.Load(pair.left, row, block));
    // Goes on while the next block is made ready on the host.
    sums.narrow(0, row, rows).addmm_(block, right.t(), is_first ? 0 : 1, 1);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status QuantiseInPlace(const at::Tensor& costs,
                             const RunContext& context) {
  const std::int64_t size = costs.size(0);
  const at::Tensor similarities = costs.view(at::kFloat);
  const std::int64_t block_rows =
      std::max<std::int64_t>(1, kTensorBlockEntries / size);
  std::vector<at::Tensor> greatest;
  for (std::int64_t row = 0; row < size; row += block_rows) {
    MOESCOPE_RETURN_IF_ERROR(context.Check());
    const std::int64_t rows = std::min(block_rows, size - row);
    at::Tensor values = similarities.narrow(0, row, rows).clone();
    // NaN is the greatest of all.
    greatest.push_back(values.abs().amax(1));
    // Halves to even.
    values.mul_(-kSimilarityScale).round_();
    costs.narrow(0, row, rows).copy_(values);
  }
  const std::vector<float> magnitudes = ToHost<float>(at::cat(greatest));
  const auto wrong = std::find_if(
      magnitudes.begin(), magnitudes.end(),
      [](float magnitude) { return !(magnitude <= kMaxSimilarity); });
  if (wrong != magnitudes.end()) {
    return InvalidField(
        "similarities",
        absl::StrCat("row ", wrong - magnitudes.begin(),
                     " has an entry that is no number of magnitude up to ",
                     kMaxSimilarity));
  }
  return absl::OkStatus();
}

absl::Status FillTensorCosines(absl::Span<const NeuronPair> pairs,
                               std::int64_t block_rows, ThreadPool& pool,
                               const RunContext& context,
                               const at::Tensor& costs) {
  // Of this thread. Ten bits of a cosine are not enough.
  const at::NoTF32Guard full_fp32;
  const at::Tensor sums = costs.view(at::kFloat);
  NeuronLoader loader(costs.device(), pool, context);
  for (const NeuronPair& pair : pairs) {
    MOESCOPE_RETURN_IF_ERROR(AddCosines(pair, &pair == pairs.data(), block_rows,
                                        loader, sums));
  }
  return QuantiseInPlace(costs, context);
}

}  // namespace moescope::numerics::internal
