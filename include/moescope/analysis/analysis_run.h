#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"

#include "moescope/model/checkpoint.h"
#include "moescope/model/model.h"
#include "moescope/model/tree_hash.h"
#include "moescope/spec/array.h"

namespace moescope::analysis {

/// Where an analysis puts what it finds. A status that is not OK ends the
/// analysis with that status.
/// Threads: one call at a time, not always from the thread that called Run.
class ChunkSink {
 public:
  virtual ~ChunkSink() = default;
  /// Appends the next chunk of the answer. May block (back-pressure).
  virtual absl::Status Emit(spec::Chunk chunk) = 0;
  /// Replaces the saved state. It covers everything computed so far and is
  /// worth keeping only after all chunks emitted before it are.
  virtual absl::Status SaveState(std::string bytes) = 0;
};

/// How far an interrupted run came: `chunks` of its chunks are kept, in order
/// from the first; `state` is the last state that it saved (empty: none).
/// A run that resumes emits exactly the chunks that are missing.
struct ResumePoint {
  std::int64_t chunks = 0;
  std::string state;
};

/// The models of a Spec, opened. What a Spec does not need may be null.
struct ModelInputs {
  std::shared_ptr<const model::Checkpoint> checkpoint;
  /// `checkpoint` made ready for forward passes; null for static analyses.
  std::shared_ptr<const model::Model> model;
  std::shared_ptr<const model::Checkpoint> baseline;
  /// Of `checkpoint`, where its content hash is not known: an analysis that
  /// reads most weights fills it along, and it is complete after a run that
  /// went well. May be null, and may be left incomplete by any other analysis.
  std::shared_ptr<model::TreeHasher> hasher;
  /// As model::ResolveDevice returns it: where analyses of weights that can
  /// work on a GPU do so, and where `model` lies.
  std::string device = "cpu";
};

}  // namespace moescope::analysis
