#include "server/model/families/stacked_experts_internal.h"

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {
namespace {

using numerics::MatrixView;

constexpr std::int64_t kMxfp4Block = 32;
constexpr std::int64_t kMxfp4BlockBytes = kMxfp4Block / 2;

struct Widths {
  std::int64_t experts;  // E
  std::int64_t model;    // D
  std::int64_t expert;   // F
};

Widths WidthsOf(const TensorBinder& binder) {
  return {binder.config().num_experts, binder.config().width,
          binder.config().expert_width};
}

// Rows of gate (up: true for up) among 2F.
struct Rows {
  std::int64_t first;
  std::int64_t step;
};

Rows RowsOf(GateUpOrder order, bool up, std::int64_t width) {
  return order == GateUpOrder::kInterleaved ? Rows{up ? 1 : 0, 2}
                                            : Rows{up ? width : 0, 1};
}

// E views [rows, cols] of MXFP4; every `step`-th row from `first` on of
// [E, all_rows, cols].
struct Mxfp4Part {
  std::int64_t all_rows;
  Rows rows_of;
  std::int64_t rows;
  std::int64_t cols;
};

absl::StatusOr<std::vector<MatrixView>> BindMxfp4(const TensorBinder& binder,
                                                  const std::string& name,
                                                  const Mxfp4Part& part) {
  const std::int64_t experts = binder.config().num_experts;
  const std::int64_t groups = part.cols / kMxfp4Block;
  if (part.cols % kMxfp4Block != 0) {
    return absl::DataLossError(absl::StrCat(
        "tensor ", QuoteName(name + "_blocks"), ": rows of ", part.cols,
        " values are no whole blocks of ", kMxfp4Block));
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      const TensorEntry* blocks,
      binder.RequireBytes(name + "_blocks", {experts, part.all_rows, groups,
                                             kMxfp4BlockBytes}));
  MOESCOPE_ASSIGN_OR_RETURN(
      const TensorEntry* scales,
      binder.RequireBytes(name + "_scales", {experts, part.all_rows, groups}));
  std::vector<MatrixView> views;
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::int64_t row = e * part.all_rows + part.rows_of.first;
    MatrixView view;
    view.data = blocks->data + row * groups * kMxfp4BlockBytes;
    view.type = numerics::ElementType::kFloat4E2M1;
    view.rows = part.rows;
    view.cols = part.cols;
    view.row_stride = part.rows_of.step * part.cols;
    view.scales.data = scales->data + row * groups;
    view.scales.type = numerics::ScaleType::kExponent8;
    view.scales.block_cols = kMxfp4Block;
    view.scales.row_stride = part.rows_of.step * groups;
    views.push_back(view);
  }
  return views;
}

std::vector<ExpertWeights> Zip(const std::vector<MatrixView>& gate,
                               const std::vector<MatrixView>& up,
                               const std::vector<MatrixView>& down) {
  std::vector<ExpertWeights> experts(gate.size());
  for (std::size_t e = 0; e < experts.size(); ++e) {
    experts[e].projections = {gate[e], up[e], down[e]};
  }
  return experts;
}

}  // namespace

absl::StatusOr<std::vector<MatrixView>> BindStack(const TensorBinder& binder,
                                                  const ExpertStack& stack,
                                                  std::int64_t rows,
                                                  std::int64_t cols) {
  const std::int64_t experts = binder.config().num_experts;
  MOESCOPE_ASSIGN_OR_RETURN(const TensorEntry* tensor,
                            binder.Require(stack.name, stack.shape));
  const std::int64_t last =
      stack.first + (experts - 1) * stack.expert_stride +
      (rows - 1) * stack.row_stride + (cols - 1) * stack.col_stride;
  if (last >= tensor->size_bytes / DtypeSize(tensor->dtype)) {
    return absl::InternalError(absl::StrCat(
        "tensor ", QuoteName(stack.name), ": its stack has no element ", last));
  }
  std::vector<MatrixView> views;
  for (std::int64_t e = 0; e < experts; ++e) {
    MatrixView view =
        ViewRows(*tensor, stack.first + e * stack.expert_stride, rows, cols);
    view.row_stride = stack.row_stride;
    view.col_stride = stack.col_stride;
    views.push_back(view);
  }
  return views;
}

absl::StatusOr<std::vector<ExpertWeights>> BindStackedExperts(
    const TensorBinder& binder, const ExpertStack& gate, const ExpertStack& up,
    const ExpertStack& down) {
  const Widths n = WidthsOf(binder);
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<MatrixView> gates,
                            BindStack(binder, gate, n.expert, n.model));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<MatrixView> ups,
                            BindStack(binder, up, n.expert, n.model));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<MatrixView> downs,
                            BindStack(binder, down, n.model, n.expert));
  return Zip(gates, ups, downs);
}

absl::StatusOr<std::vector<ExpertWeights>> BindFusedExperts(
    const TensorBinder& binder, const std::string& gate_up,
    const std::string& down) {
  const Widths n = WidthsOf(binder);
  const std::int64_t size = n.expert * n.model;
  ExpertStack gate = {gate_up, {n.experts, 2 * n.expert, n.model}, 0, 2 * size,
                      n.model};
  ExpertStack up = gate;
  up.first = size;
  return BindStackedExperts(
      binder, gate, up,
      {down, {n.experts, n.model, n.expert}, 0, size, n.expert});
}

absl::StatusOr<std::vector<ExpertWeights>> BindTransposedExperts(
    const TensorBinder& binder, const std::string& gate_up,
    const std::string& down, GateUpOrder order) {
  const Widths n = WidthsOf(binder);
  const std::int64_t size = n.expert * n.model;
  const auto stack = [&](bool up) {
    const Rows rows = RowsOf(order, up, n.expert);
    return ExpertStack{gate_up,  {n.experts, n.model, 2 * n.expert},
                       rows.first, 2 * size,
                       rows.step,  2 * n.expert};
  };
  return BindStackedExperts(
      binder, stack(false), stack(true),
      {down, {n.experts, n.expert, n.model}, 0, size, 1, n.model});
}

absl::StatusOr<std::vector<ExpertWeights>> BindConcatenatedExperts(
    const TensorBinder& binder, const std::string& gate, const std::string& up,
    const std::string& down) {
  const Widths n = WidthsOf(binder);
  const std::int64_t size = n.expert * n.model;
  const std::vector<std::int64_t> shape = {n.experts * n.expert, n.model};
  return BindStackedExperts(binder, {gate, shape, 0, size, n.model},
                            {up, shape, 0, size, n.model},
                            {down, shape, 0, size, 1, n.model});
}

absl::StatusOr<std::vector<ExpertWeights>> BindMxfp4Experts(
    const TensorBinder& binder, const std::string& gate_up,
    const std::string& down) {
  const Widths n = WidthsOf(binder);
  const auto part = [&](bool up) {
    return Mxfp4Part{2 * n.expert,
                     RowsOf(GateUpOrder::kInterleaved, up, n.expert), n.expert,
                     n.model};
  };
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<MatrixView> gates,
                            BindMxfp4(binder, gate_up, part(false)));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<MatrixView> ups,
                            BindMxfp4(binder, gate_up, part(true)));
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<MatrixView> downs,
      BindMxfp4(binder, down, {n.model, Rows{0, 1}, n.model, n.expert}));
  return Zip(gates, ups, downs);
}

absl::StatusOr<std::vector<ExpertBiases>> BindExpertBiases(
    const TensorBinder& binder, const std::string& gate_up,
    const std::string& down, GateUpOrder order) {
  const Widths n = WidthsOf(binder);
  const auto bind = [&](bool up) {
    const Rows rows = RowsOf(order, up, n.expert);
    return BindStack(binder,
                     {gate_up, {n.experts, 2 * n.expert}, rows.first,
                      2 * n.expert, 2 * n.expert, rows.step},
                     1, n.expert);
  };
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<MatrixView> gates, bind(false));
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<MatrixView> ups, bind(true));
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::vector<MatrixView> downs,
      BindStack(binder, {down, {n.experts, n.model}, 0, n.model, n.model}, 1,
                n.model));
  std::vector<ExpertBiases> biases(gates.size());
  for (std::size_t e = 0; e < biases.size(); ++e) {
    biases[e] = {gates[e], ups[e], downs[e]};
  }
  return biases;
}

}  // namespace moescope::model::internal
