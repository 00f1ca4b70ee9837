#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "server/analysis/chunk_emitter_internal.h"
#include "server/analysis/projection_reading_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/numerics/gram.h"

namespace moescope::analysis::internal {
namespace {

// Puts what one reading of `group` gave to the places of its members.
void Place(const numerics::GramResult& read, std::vector<double>& means,
           const std::vector<std::size_t>& group, ProjectionReading& reading) {
  const std::size_t depth = means.size() / group.size();
  for (std::size_t i = 0; i < group.size(); ++i) {
    reading.nonfinite[group[i]] = read.nonfinite[i];
    std::copy_n(means.begin() + static_cast<std::ptrdiff_t>(i * depth), depth,
                reading.means.begin() +
                    static_cast<std::ptrdiff_t>(group[i] * depth));
  }
}

}  // namespace

absl::StatusOr<ProjectionReading> ReadProjection(
    const std::vector<Participant>& all, model::Projection projection,
    const ReadingWants& wants, ThreadPool& pool, const RunContext& context) {
  std::vector<Participant> participants;
  std::copy_if(all.begin(), all.end(), std::back_inserter(participants),
               [&](const Participant& p) {
                 return p.routed_shape || wants.means;
               });
  const bool down = projection == model::Projection::kDown;
  numerics::GramOptions options;
  options.gram = wants.gram;
  options.standardised_gram = wants.standardised_gram;
  options.mean_row = wants.means && !down;
  options.mean_column = wants.means && down;
  options.row_norms = wants.norms && !down;
  options.column_norms = wants.norms && down;
  ProjectionReading reading;
  reading.nonfinite.resize(participants.size());
  if (wants.means && !participants.empty()) {
    const numerics::MatrixView& view = participants[0].weights[projection];
    reading.means.resize(participants.size() *
                         static_cast<std::size_t>(down ? view.rows : view.cols));
  }
  std::vector<std::size_t> group;
  std::vector<numerics::MatrixView> views;
  for (std::size_t i = 0; i < participants.size(); ++i) {
    const numerics::MatrixView& view = participants[i].weights[projection];
    reading.participants.push_back(participants[i].number);
    if (participants[i].routed_shape) {
      group.push_back(i);
      views.push_back(view);
      reading.fitting.push_back(participants[i].number);
      continue;
    }
    // Of another shape: it has only a mean.
    numerics::GramOptions alone;
    alone.gram = false;
    alone.mean_row = options.mean_row;
    alone.mean_column = options.mean_column;
    MOESCOPE_ASSIGN_OR_RETURN(
        numerics::GramResult read,
        numerics::ComputeGram(absl::MakeConstSpan(&view, 1), alone, pool,
                              context));
    Place(read, down ? read.mean_column : read.mean_row, {i}, reading);
  }
  if (group.empty()) {
    return reading;
  }
  MOESCOPE_ASSIGN_OR_RETURN(
      numerics::GramResult read,
      numerics::ComputeGram(views, options, pool, context));
  Place(read, down ? read.mean_column : read.mean_row, group, reading);
  reading.fitting_nonfinite = std::move(read.nonfinite);
  reading.gram = std::move(read.gram);
  reading.standardised_gram = std::move(read.standardised_gram);
  reading.norms = std::move(down ? read.column_norms : read.row_norms);
  return reading;
}

absl::Status EmitPerProjection(
    const ProjectionUnits& units, const ResumePoint& resume,
    const RunContext& context, ChunkSink& sink,
    const std::function<absl::StatusOr<spec::Chunk>(
        std::int64_t layer, model::Projection projection)>& make) {
  ChunkEmitter emitter(resume, sink);
  Progress progress = {
      units.stage, 0,
      static_cast<std::int64_t>(units.layers.size() * units.projections.size()),
      "matrices"};
  for (const std::int64_t layer : units.layers) {
    for (const std::string& name : units.projections) {
      MOESCOPE_RETURN_IF_ERROR(context.Check());
      ++progress.done;
      if (!emitter.wanted()) {
        // Not reported: it tells nothing of this run's pace.
        emitter.Skip();
        continue;
      }
      MOESCOPE_ASSIGN_OR_RETURN(const model::Projection projection,
                                ParseProjection(name));
      MOESCOPE_ASSIGN_OR_RETURN(spec::Chunk chunk, make(layer, projection));
      MOESCOPE_RETURN_IF_ERROR(emitter.Emit(std::move(chunk)));
      context.ReportProgress(progress);
    }
  }
  return absl::OkStatus();
}

std::string ProjectionPrefix(std::int64_t layer, model::Projection projection) {
  return LayerName(layer, absl::StrCat(model::ProjectionName(projection), "."));
}

void AddNonfinite(const ProjectionReading& reading, const std::string& prefix,
                  spec::Chunk& chunk) {
  chunk.arrays.push_back(spec::MakeArray(
      prefix + "nonfinite",
      {static_cast<std::int64_t>(reading.nonfinite.size())},
      absl::MakeConstSpan(reading.nonfinite)));
}

std::vector<spec::ArrayDeclaration> Prefixed(
    const std::string& prefix,
    std::vector<spec::ArrayDeclaration> declarations) {
  for (spec::ArrayDeclaration& declaration : declarations) {
    declaration.pattern = prefix + declaration.pattern;
  }
  return declarations;
}

}  // namespace moescope::analysis::internal
