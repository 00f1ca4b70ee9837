#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "moescope/analysis/analysis_run.h"
#include "moescope/spec/analysis_spec.h"
#include "moescope/spec/array.h"

namespace moescope::analysis {

/// What a run gave. `states[i]` was saved after `chunks_at_state[i]` chunks.
struct Log {
  absl::Status status;
  std::vector<spec::Chunk> chunks;
  std::vector<std::string> states;
  std::vector<std::int64_t> chunks_at_state;
  /// Progress::done of each report.
  std::vector<std::int64_t> reported;
};

struct RunOptions {
  int threads = 1;
  ResumePoint resume;
  /// The run is cancelled once this many chunks and states are in; -1: never.
  int cancel_after = -1;
  /// ModelInputs::device. "cpu:0" goes the way of a GPU with tensors on the CPU.
  std::string device = "cpu";
};

/// The bundled model or fixture `name` ("tiny-mixtral", "olmoe"), opened once per program, with
/// "tiny-mistral" as baseline.
ModelInputs OpenInputs(const std::string& name);

/// `checkpoint` and a model made of it; fails the test on an error.
ModelInputs LoadInputs(std::shared_ptr<const model::Checkpoint> checkpoint);

/// `spec` normalised against the model it names; fails the test on an error.
spec::AnalysisSpec Normalised(spec::AnalysisSpec spec);

/// Runs the normalised `spec` on the model it names.
Log RunSpec(const spec::AnalysisSpec& spec, const RunOptions& options = {});

/// As RunSpec, on `inputs` (all but the device).
Log RunOn(ModelInputs inputs, const spec::AnalysisSpec& spec,
          const RunOptions& options = {});

/// "" when every chunk fits the schema of the analysis; else what does not.
std::string SchemaProblem(const spec::AnalysisSpec& spec, const Log& log);

/// Names, shapes and bytes of chunks from `first` on, to be compared.
std::vector<std::string> Images(const Log& log, std::int64_t first = 0);

/// All arrays by name; arrays of the same name joined along axis 0.
std::map<std::string, spec::Array> Join(const Log& log);

/// The sequences of `input/<text>` in the expected values of `model`.
spec::TokenInput ExpectedInput(const std::string& model,
                               const std::string& text);

/// Bounds on |actual - expected|: absolute + relative |expected|; integers may
/// differ by `counts`. So many elements of an array as `outliers` says may be
/// further off, but no real by more than 1.
struct Tolerance {
  double absolute = 0;
  double relative = 0;
  double counts = 0;
  int outliers = 0;
};

/// "" when every expected array `<group>/<name>` whose name ends with one of
/// `endings` is in `log` with the same shape and values within `tolerance`;
/// else the first that is not. `compared` receives how many there were.
std::string Compare(const std::string& model, const std::string& group,
                    const std::vector<std::string>& endings, const Log& log,
                    const Tolerance& tolerance, int* compared);

/// "" when the tokens of every `layer.L.neuron.top_tokens` in `log` are
/// different ones that have the expected `top_values` in the activations of the
/// fixture `model`, to within `tie`: which of several like ones is named is
/// left open. `compared` as above.
std::string CompareTopTokens(const std::string& model, const std::string& group,
                             const Log& log, const Tolerance& tie,
                             int* compared);

/// The numbers of the expected `group` of `model`, by name.
std::map<std::string, double> ExpectedValues(const std::string& model,
                                             const std::string& group);

/// The scalars of `log` by name.
std::map<std::string, double> Scalars(const Log& log);

/// As Compare, for the numbers of the JSON whose name ends with one of
/// `endings`.
std::string CompareValues(const std::string& model, const std::string& group,
                          const std::vector<std::string>& endings,
                          const Log& log, const Tolerance& tolerance,
                          int* compared);

}  // namespace moescope::analysis
