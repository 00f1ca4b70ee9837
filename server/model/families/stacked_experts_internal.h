#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "server/model/layer_tensors_internal.h"
#include "server/model/tensor_binder_internal.h"

// Layouts with the experts of a layer in one tensor per projection or two. All
// of them become views; nothing is copied.

namespace moescope::model::internal {

/// Where one projection of E experts lies: element (r, c) of expert e is
/// element first + e · expert_stride + r · row_stride + c · col_stride of the
/// tensor `name`, whose shape config.json implies to be `shape`.
struct ExpertStack {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t first = 0;
  std::int64_t expert_stride = 0;
  std::int64_t row_stride = 0;
  std::int64_t col_stride = 1;
};

/// E = num_experts matrices [rows, cols].
/// Errors: as TensorBinder::Require; INTERNAL when the stack does not fit into
/// its shape.
absl::StatusOr<std::vector<numerics::MatrixView>> BindStack(
    const TensorBinder& binder, const ExpertStack& stack, std::int64_t rows,
    std::int64_t cols);

/// Experts out of three stacks: gate and up [F, D], down [D, F].
/// Errors: as BindStack.
absl::StatusOr<std::vector<ExpertWeights>> BindStackedExperts(
    const TensorBinder& binder, const ExpertStack& gate, const ExpertStack& up,
    const ExpertStack& down);

/// How gate and up share the 2F rows (or columns) of one tensor.
enum class GateUpOrder {
  kHalves,       ///< All of gate, then all of up.
  kInterleaved,  ///< By turns, gate first.
};

/// `gate_up` [E, 2F, D], gate rows first, and `down` [E, D, F]: fused layout of
/// transformers 5 and of jetmoe.
absl::StatusOr<std::vector<ExpertWeights>> BindFusedExperts(
    const TensorBinder& binder, const std::string& gate_up,
    const std::string& down);

/// `gate_up` [E, D, 2F] and `down` [E, F, D]: llama4 (kHalves), gpt_oss
/// (kInterleaved).
absl::StatusOr<std::vector<ExpertWeights>> BindTransposedExperts(
    const TensorBinder& binder, const std::string& gate_up,
    const std::string& down, GateUpOrder order);

/// `gate`, `up` and `down`, each [E F, D], experts one after another: dbrx's
/// w1, v1 and w2.
absl::StatusOr<std::vector<ExpertWeights>> BindConcatenatedExperts(
    const TensorBinder& binder, const std::string& gate, const std::string& up,
    const std::string& down);

/// gpt_oss in MXFP4: `gate_up` + "_blocks" U8 [E, 2F, D/32, 16] and "_scales"
/// U8 [E, 2F, D/32], gate and up interleaved; `down` likewise [E, D, F/32, 16].
/// Errors: as TensorBinder::Require; DATA_LOSS when D or F is no multiple of
/// 32.
absl::StatusOr<std::vector<ExpertWeights>> BindMxfp4Experts(
    const TensorBinder& binder, const std::string& gate_up,
    const std::string& down);

/// `gate_up` [E, 2F] and `down` [E, D].
absl::StatusOr<std::vector<ExpertBiases>> BindExpertBiases(
    const TensorBinder& binder, const std::string& gate_up,
    const std::string& down, GateUpOrder order);

}  // namespace moescope::model::internal
