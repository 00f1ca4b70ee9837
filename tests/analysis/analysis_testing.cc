#include "tests/analysis/analysis_testing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include <nlohmann/json.hpp>

#include "moescope/analysis/catalogue.h"
#include "moescope/base/mutex.h"
#include "moescope/base/run_context.h"
#include "moescope/base/thread_pool.h"
#include "moescope/model/safetensors.h"

namespace moescope::analysis {
namespace {

std::string TestData(const std::string& path) {
  return absl::StrCat(MOESCOPE_SOURCE_DIR, "/tests/testdata/", path);
}

std::shared_ptr<const model::Checkpoint> Open(const std::string& name) {
  const std::string trained = TestData("models/" + name);
  auto checkpoint = model::Checkpoint::Open(
      std::filesystem::exists(trained) ? trained
                                       : TestData("fixtures/" + name));
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return *checkpoint;
}

class RecordingSink final : public ChunkSink {
 public:
  RecordingSink(Log& log, CancellationToken& token, int cancel_after)
      : log_(log), token_(token), left_(cancel_after) {}

  absl::Status Emit(spec::Chunk chunk) override {
    log_.chunks.push_back(std::move(chunk));
    Count();
    return absl::OkStatus();
  }
  absl::Status SaveState(std::string bytes) override {
    log_.states.push_back(std::move(bytes));
    log_.chunks_at_state.push_back(
        static_cast<std::int64_t>(log_.chunks.size()));
    Count();
    return absl::OkStatus();
  }

 private:
  void Count() {
    if (left_ > 0 && --left_ == 0) {
      token_.Cancel(absl::CancelledError("enough"));
    }
  }

  Log& log_;
  CancellationToken& token_;
  int left_;
};

std::shared_ptr<const model::SafetensorsFile> ExpectedFile(
    const std::string& model) {
  auto file = model::SafetensorsFile::Open(
      TestData(absl::StrCat("expected/", model, ".safetensors")));
  EXPECT_TRUE(file.ok()) << file.status();
  return *file;
}

std::vector<double> ValuesOf(const model::TensorEntry& entry) {
  const auto bytes = static_cast<std::size_t>(entry.size_bytes);
  std::vector<double> values;
  if (entry.dtype == model::TensorDtype::kI64) {
    std::vector<std::int64_t> integers(bytes / sizeof(std::int64_t));
    std::memcpy(integers.data(), entry.data, bytes);
    values.reserve(integers.size());
    for (const std::int64_t value : integers) {
      values.push_back(static_cast<double>(value));
    }
  } else {
    std::vector<float> reals(bytes / sizeof(float));
    std::memcpy(reals.data(), entry.data, bytes);
    values.assign(reals.begin(), reals.end());
  }
  return values;
}

std::string CompareArray(const model::TensorEntry& entry,
                         const spec::Array& array, const Tolerance& tolerance) {
  if (entry.shape != array.shape) {
    return absl::StrCat(array.name, ": shape ", absl::StrJoin(array.shape, ","),
                        ", expected ", absl::StrJoin(entry.shape, ","));
  }
  const bool integer = entry.dtype == model::TensorDtype::kI64;
  const std::vector<double> expected = ValuesOf(entry);
  const std::vector<double> actual = spec::ToDoubles(array);
  int outliers = tolerance.outliers;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double bound =
        integer
            ? tolerance.counts
            : tolerance.absolute + tolerance.relative * std::abs(expected[i]);
    const double distance = std::abs(actual[i] - expected[i]);
    const bool excusable = integer || distance <= 1;
    if (!(distance <= bound) && (!excusable || --outliers < 0)) {
      return absl::StrCat(array.name, " element ", i, ": ", actual[i],
                          ", expected ", expected[i]);
    }
  }
  return "";
}

// The first row [K] of `tokens` [E, F, K] whose tokens are not K different ones
// with the activations `values` [E, F, K]; -1 when there is none. The tokens'
// own are `activations` [E, T, F].
std::int64_t FirstWrongRow(const std::vector<double>& tokens,
                           const std::vector<double>& values,
                           const std::vector<std::int64_t>& shape,
                           const std::vector<double>& activations,
                           const Tolerance& tie) {
  const std::int64_t width = shape[2];
  const std::int64_t neurons = shape[0] * shape[1];
  const auto length = static_cast<std::int64_t>(activations.size()) / neurons;
  for (std::int64_t row = 0; row < neurons; ++row) {
    std::set<double> seen;
    for (std::int64_t i = row * width; i < (row + 1) * width; ++i) {
      const auto place = static_cast<std::size_t>(i);
      const auto token = static_cast<std::int64_t>(tokens[place]);
      if (token < 0 || token >= length || !seen.insert(tokens[place]).second) {
        return row;
      }
      const double own = activations[static_cast<std::size_t>(
          (row / shape[1] * length + token) * shape[1] + row % shape[1])];
      if (std::abs(own - values[place]) >
          tie.absolute + tie.relative * std::abs(own)) {
        return row;
      }
    }
  }
  return -1;
}

}  // namespace

ModelInputs OpenInputs(const std::string& name) {
  static auto* const opened = new std::map<std::string, ModelInputs>();
  ModelInputs& inputs = (*opened)[name];
  if (inputs.checkpoint == nullptr) {
    inputs = LoadInputs(Open(name));
    inputs.baseline = Open("tiny-mistral");
  }
  return inputs;
}

ModelInputs LoadInputs(std::shared_ptr<const model::Checkpoint> checkpoint) {
  ModelInputs inputs;
  inputs.checkpoint = std::move(checkpoint);
  ThreadPool pool(1);
  auto model =
      model::Model::Load(inputs.checkpoint, "cpu", pool, RunContext());
  EXPECT_TRUE(model.ok()) << model.status();
  inputs.model = *std::move(model);
  return inputs;
}

spec::AnalysisSpec Normalised(spec::AnalysisSpec spec) {
  const std::vector<std::string> names = spec::ModelNames(spec);
  const ModelInputs inputs = OpenInputs(names[0]);
  const spec::ModelFacts facts = FactsOf(*inputs.checkpoint, names[0]);
  const spec::ModelFacts baseline = FactsOf(*inputs.baseline, "tiny-mistral");
  const absl::Status status =
      spec::Normalise(facts, names.size() > 1 ? &baseline : nullptr, {}, spec);
  EXPECT_TRUE(status.ok()) << status;
  return spec;
}

Log RunSpec(const spec::AnalysisSpec& spec, const RunOptions& options) {
  return RunOn(OpenInputs(spec::ModelNames(spec)[0]), spec, options);
}

Log RunOn(ModelInputs inputs, const spec::AnalysisSpec& spec,
          const RunOptions& options) {
  Log log;
  ThreadPool pool(options.threads);
  RunContext context;
  Mutex mutex;
  context.set_progress_function([&](const Progress& progress) {
    const MutexLock lock(mutex);
    log.reported.push_back(progress.done);
  });
  RecordingSink sink(log, context.token(), options.cancel_after);
  inputs.device = options.device;
  log.status = Run(spec, inputs, options.resume, pool, context, sink);
  return log;
}

std::string SchemaProblem(const spec::AnalysisSpec& spec, const Log& log) {
  for (const spec::Chunk& chunk : log.chunks) {
    const absl::Status status = Catalogue()[spec.index()].schema.Check(chunk);
    if (!status.ok()) {
      return status.ToString();
    }
  }
  return "";
}

std::vector<std::string> Images(const Log& log, std::int64_t first) {
  std::vector<std::string> images;
  for (std::size_t i = static_cast<std::size_t>(first); i < log.chunks.size();
       ++i) {
    std::string image;
    for (const spec::Array& array : log.chunks[i].arrays) {
      absl::StrAppend(&image, array.name, " ", spec::DTypeName(array.dtype),
                      " ", absl::StrJoin(array.shape, ","), " ", array.bytes,
                      "\n");
    }
    images.push_back(std::move(image));
  }
  return images;
}

std::map<std::string, spec::Array> Join(const Log& log) {
  std::map<std::string, spec::Array> joined;
  for (const spec::Chunk& chunk : log.chunks) {
    for (const spec::Array& array : chunk.arrays) {
      const auto [at, fresh] = joined.emplace(array.name, array);
      if (!fresh) {
        at->second.shape[0] += array.shape[0];
        at->second.bytes += array.bytes;
      }
    }
  }
  return joined;
}

spec::TokenInput ExpectedInput(const std::string& model,
                               const std::string& text) {
  const auto file = ExpectedFile(model);
  const std::string prefix = absl::StrCat("input/", text, "/");
  spec::TokenInput input;
  for (const double id : ValuesOf(file->tensors().at(prefix + "input_ids"))) {
    input.ids.push_back(static_cast<std::int32_t>(id));
  }
  for (const double length : ValuesOf(file->tensors().at(prefix + "lengths"))) {
    input.lengths.push_back(static_cast<std::int64_t>(length));
  }
  return input;
}

std::string Compare(const std::string& model, const std::string& group,
                    const std::vector<std::string>& endings, const Log& log,
                    const Tolerance& tolerance, int* compared) {
  const auto file = ExpectedFile(model);
  const std::map<std::string, spec::Array> joined = Join(log);
  *compared = 0;
  for (const auto& [full_name, entry] : file->tensors()) {
    absl::string_view name = full_name;
    if (!absl::ConsumePrefix(&name, group + "/") ||
        std::none_of(endings.begin(), endings.end(),
                     [&](const std::string& ending) {
                       return absl::EndsWith(name, ending);
                     })) {
      continue;
    }
    const auto found = joined.find(std::string(name));
    if (found == joined.end()) {
      return absl::StrCat(full_name, " was not emitted");
    }
    const std::string problem = CompareArray(entry, found->second, tolerance);
    if (!problem.empty()) {
      return problem;
    }
    ++*compared;
  }
  return "";
}

std::string CompareTopTokens(const std::string& model, const std::string& group,
                             const Log& log, const Tolerance& tie,
                             int* compared) {
  const auto expected = ExpectedFile(model);
  const auto reference = model::SafetensorsFile::Open(
      TestData(absl::StrCat("fixtures/", model, "/reference.safetensors")));
  *compared = 0;
  if (!reference.ok()) return reference.status().ToString();
  for (const auto& [name, array] : Join(log)) {
    absl::string_view layer = name;
    if (!absl::ConsumeSuffix(&layer, ".neuron.top_tokens")) continue;
    const auto values = expected->tensors().find(
        absl::StrCat(group, "/", layer, ".neuron.top_values"));
    const auto activations = (*reference)->tensors().find(
        absl::StrCat(layer, ".expert_activations"));
    if (values == expected->tensors().end() ||
        activations == (*reference)->tensors().end() ||
        array.shape != values->second.shape) {
      return absl::StrCat(name, ": nothing of this shape is expected");
    }
    const std::int64_t row =
        FirstWrongRow(spec::ToDoubles(array), ValuesOf(values->second),
                      array.shape, ValuesOf(activations->second), tie);
    if (row >= 0) return absl::StrCat(name, ": row ", row, " has others");
    ++*compared;
  }
  return "";
}

std::map<std::string, double> ExpectedValues(const std::string& model,
                                             const std::string& group) {
  std::ifstream file(TestData(absl::StrCat("expected/", model, ".json")));
  const auto json = nlohmann::json::parse(file);
  std::map<std::string, double> values;
  for (const auto& [name, value] :
       json.at("groups").at(group).at("values").items()) {
    values[name] = value.get<double>();
  }
  return values;
}

std::map<std::string, double> Scalars(const Log& log) {
  std::map<std::string, double> scalars;
  for (const spec::Chunk& chunk : log.chunks) {
    for (const spec::Array& array : chunk.arrays) {
      if (array.shape.empty()) {
        scalars[array.name] = spec::ToDoubles(array)[0];
      }
    }
  }
  return scalars;
}

std::string CompareValues(const std::string& model, const std::string& group,
                          const std::vector<std::string>& endings,
                          const Log& log, const Tolerance& tolerance,
                          int* compared) {
  const std::map<std::string, double> scalars = Scalars(log);
  *compared = 0;
  for (const auto& [name, expected] : ExpectedValues(model, group)) {
    if (std::none_of(endings.begin(), endings.end(),
                     [&name = name](const std::string& ending) {
                       return absl::EndsWith(name, ending);
                     })) {
      continue;
    }
    const auto found = scalars.find(name);
    if (found == scalars.end()) {
      return absl::StrCat(name, " was not emitted");
    }
    const double bound =
        tolerance.absolute + tolerance.relative * std::abs(expected);
    if (!(std::abs(found->second - expected) <= bound)) {
      return absl::StrCat(name, ": ", found->second, ", expected ", expected);
    }
    ++*compared;
  }
  return "";
}

}  // namespace moescope::analysis
