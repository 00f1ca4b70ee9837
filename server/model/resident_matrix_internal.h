#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "moescope/numerics/matrix_view.h"
#include "moescope/numerics/widen_rows.h"

namespace moescope::model::internal {

/// A weight matrix (or a part of one) on one device, in the checkpoint's own
/// number format: plain numbers with any strides, or codes with the scales of
/// their blocks. Only what is asked for is ever widened, so that a quantised
/// model takes its packed bytes. Cheap to copy. Threads: immutable.
class ResidentMatrix {
 public:
  /// What widens: numerics::WidenBlock, which reads host memory, or torch,
  /// which works on every device. Both give the same bits.
  enum class Widening { kHost, kTorch };

  ResidentMatrix() = default;
  /// Plain numbers that are on their device already. [rows, cols]
  explicit ResidentMatrix(at::Tensor plain);
  /// On the CPU the memory of `view` stays where it is, and `owner` alive;
  /// other devices get a copy of the rows and scales of `view`, nothing more.
  /// Throws c10::Error for a kFloat4E2M1 matrix whose rows are not packed one
  /// value after another (on devices but the CPU).
  ResidentMatrix(const numerics::MatrixView& view,
                 std::shared_ptr<const void> owner, c10::Device device);
  ResidentMatrix(const numerics::MatrixView& view,
                 std::shared_ptr<const void> owner, c10::Device device,
                 Widening widening);

  /// Memory that its elements and scales take.
  std::int64_t bytes() const;
  bool defined() const { return codes_.defined() || view_.data != nullptr; }
  /// Rows (0) or columns (1).
  std::int64_t size(std::int64_t dimension) const {
    return dimension == 0 ? block_.rows : block_.cols;
  }
  /// Rows (0) or columns (1) [begin, begin + size); shares memory.
  ResidentMatrix narrow(std::int64_t dimension, std::int64_t begin,
                        std::int64_t size) const;
  /// Writes the elements in fp32 to `out`, contiguous [rows, cols] on the same
  /// device. Throws c10::Error.
  void WidenTo(const at::Tensor& out) const;

 private:
  void WidenCodes(const at::Tensor& out) const;
  at::Tensor Codes(const numerics::MatrixBlock& block) const;
  at::Tensor Scales(const numerics::MatrixBlock& block) const;

  // What the matrix is; of the memory only with kHost.
  numerics::MatrixView view_;
  numerics::MatrixBlock block_;  // the part of it that this is
  std::shared_ptr<const void> owner_;
  // Plain: [rows, cols]. Quantised, with kTorch: bytes [rows, cols], of
  // kFloat4E2M1 [rows, ⌈cols / 2⌉].
  at::Tensor codes_;
  at::Tensor scales_;  // of blocks, as on disk; E8M0 as bytes
};

}  // namespace moescope::model::internal
