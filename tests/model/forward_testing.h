#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"

#include "moescope/base/mutex.h"
#include "moescope/model/forward.h"
#include "moescope/model/model.h"
#include "moescope/model/safetensors.h"

namespace moescope::model {

/// Keeps copies of all that a pass shows, under the names of the reference
/// files ("layer.3.router_logits", "logits") plus "layer.L.margin" and
/// "layer.L.routed_output".
class RecordingObserver final : public ForwardObserver {
 public:
  absl::Status OnAttentionRouting(const LayerRouting& routing) override;
  absl::Status OnRouting(const LayerRouting& routing) override;
  absl::Status OnExpertRows(const ExpertRows& rows) override;
  absl::Status OnLayerOutput(const LayerOutput& output) override;
  absl::Status OnLogitRows(const LogitRows& rows) override;

  /// Everything; experts stacked as "expert_outputs" [E, T, D] and
  /// "expert_activations" [E, T, F], logits joined.
  std::map<std::string, at::Tensor> Values();

 private:
  void Keep(std::int64_t layer, const char* name, const at::Tensor& value);

  Mutex mutex_;
  std::map<std::string, at::Tensor> values_ ABSL_GUARDED_BY(mutex_);
  // Name, then expert: row blocks in order.
  std::map<std::string, std::map<std::int64_t, std::vector<at::Tensor>>> rows_
      ABSL_GUARDED_BY(mutex_);
};

/// The tensors of a reference file, copied; "layers." becomes "layer." and only
/// names with `prefix` are taken, without it.
std::map<std::string, at::Tensor> ReadReference(const std::string& path,
                                                const std::string& prefix);

/// Absolute path of a folder or file of the test data.
std::string TestData(const std::string& relative);

/// The model in `folder`, on the CPU.
std::shared_ptr<const Model> LoadModel(const std::string& folder);
/// The model in `folder` of the test data, on the CPU.
std::shared_ptr<const Model> LoadTestModel(const std::string& folder);

/// Asks for everything of every layer.
ForwardRequest RequestAll(const Model& model);

struct Sequences {
  std::vector<std::int32_t> ids;
  std::vector<std::int64_t> lengths;
  TokenBatch batch() const { return {ids, lengths}; }
};
/// Deterministic ids below `vocabulary`, one sequence per length.
Sequences MakeSequences(std::vector<std::int64_t> lengths,
                        std::int64_t vocabulary);

/// Runs with `threads` threads and returns what was shown; fails the test on
/// an error.
std::map<std::string, at::Tensor> RunForward(const Model& model,
                                             const Sequences& sequences,
                                             const ForwardRequest& request,
                                             int threads);

/// "" when both have the same names, shapes and bytes; else what differs first.
std::string FirstDifference(const std::map<std::string, at::Tensor>& a,
                            const std::map<std::string, at::Tensor>& b);

/// Whether the loaded BLAS gives equal rows of a tile equal results; then a
/// token's bits do not depend on its place (see ForwardRequest).
bool RowsAreAlike();

/// How far values may be from a reference (reasons: forward_testing.cc).
enum class Bound {
  /// rtol 1e-4, atol 2e-5; ids equal.
  kFixtures,
  /// atol times the row's largest magnitude if that is above 1; ids equal
  /// wherever the reference's margin exceeds 1e-4.
  kTrained,
};

/// "" when every value of `expected` that `actual` also names lies within
/// `bound`; else the worst element. `compared` receives the number of tensors.
std::string CompareToReference(
    const std::map<std::string, at::Tensor>& expected,
    const std::map<std::string, at::Tensor>& actual, Bound bound,
    int* compared);

/// Rows [begin, begin + count) of every tensor; those of experts are [E, T, …].
std::map<std::string, at::Tensor> RowsOf(
    const std::map<std::string, at::Tensor>& values, std::int64_t begin,
    std::int64_t count);

/// What packing and requests must leave as it is: everything but for rounding
/// on any kernels, and every bit on those that treat rows of a tile alike.
void ExpectSame(const std::map<std::string, at::Tensor>& expected,
                const std::map<std::string, at::Tensor>& actual);

/// The largest |actual - expected| of a row, divided by the row's largest
/// |expected|; the worst row of [rows, n].
float WorstRowError(const at::Tensor& expected, const at::Tensor& actual);

}  // namespace moescope::model
