#include "moescope/analysis/neuron_matching.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "server/analysis/chunk_emitter_internal.h"
#include "server/analysis/matched_pair_internal.h"
#include "server/analysis/ordered_emitter_internal.h"
#include "server/analysis/participants_internal.h"

#include "moescope/base/free_list.h"
#include "moescope/base/status_macros.h"
#include "moescope/numerics/matching_null.h"
#include "moescope/numerics/neuron_cosine.h"

namespace moescope::analysis {
namespace {

using internal::MatchedPart;
using internal::Participant;

// Chunks that may wait for a slow pair, at least: each has up to four
// permutations of 8 F bytes.
constexpr std::int64_t kChunksAhead = 16;

std::int64_t NumberOf(const std::string& name) {
  return name == "S"   ? internal::kSharedParticipant
         : name == "F" ? internal::kBaselineParticipant
                       : std::stoll(name);
}

class Matching {
 public:
  Matching(const spec::NeuronMatchingSpec& spec, const ModelInputs& inputs)
      : spec_(spec),
        inputs_(inputs),
        width_(inputs.checkpoint->config().expert_width),
        depth_(inputs.checkpoint->config().width),
        num_pairs_(static_cast<std::int64_t>(spec.pairs.size()) / 2) {}

  // Who takes part; per layer what its pairs share, then each of them.
  std::int64_t num_chunks() const {
    return 1 + static_cast<std::int64_t>(spec_.layers.size()) *
                   (1 + num_pairs_);
  }

  absl::Status DrawNull(ThreadPool& pool, const RunContext& context) {
    if (spec_.null_draws > 0) {
      MOESCOPE_ASSIGN_OR_RETURN(
          null_, numerics::SimulateMatchingNull(width_, depth_,
                                                spec_.null_draws,
                                                spec_.null_seed, pool,
                                                context));
    }
    return absl::OkStatus();
  }

  // How many chunks may be made at once, of those that are left.
  std::int64_t MostAtOnce(std::int64_t left, const ThreadPool& pool) const {
    return OnDevice() ? std::min(left, internal::MatchingsOnDevice(
                                           width_, depth_, pool.num_threads()))
                      : left;
  }

  absl::StatusOr<spec::Chunk> MakeChunk(std::int64_t number, ThreadPool& pool,
                                        const RunContext& context) {
    if (number == 0) {
      return ParticipantsChunk();
    }
    const std::int64_t layer = spec_.layers[static_cast<std::size_t>(
        (number - 1) / (1 + num_pairs_))];
    const std::int64_t place = (number - 1) % (1 + num_pairs_);
    return place == 0 ? LayerChunk(layer)
                      : PairChunk(layer, place - 1, pool, context);
  }

 private:
  bool OnDevice() const { return inputs_.device != "cpu"; }

  spec::Chunk ParticipantsChunk() const {
    std::vector<std::int64_t> numbers;
    for (const std::string& name : spec_.participants) {
      numbers.push_back(NumberOf(name));
    }
    spec::Chunk chunk;
    chunk.arrays.push_back(
        spec::MakeArray("participants",
                        {static_cast<std::int64_t>(numbers.size())},
                        absl::MakeConstSpan(numbers)));
    return chunk;
  }

  spec::Chunk LayerChunk(std::int64_t layer) const {
    spec::Chunk chunk;
    const auto add = [&](const char* name, double value) {
      chunk.arrays.push_back(
          spec::MakeScalar(internal::LayerName(layer, name), value));
    };
    chunk.arrays.push_back(
        spec::MakeArray(internal::LayerName(layer, "pairs"), {num_pairs_, 2},
                        absl::MakeConstSpan(spec_.pairs)));
    add("kendall_tau_null_se", numerics::KendallTauNullError(width_));
    add("null_rule_of_thumb",
        0.85 * std::sqrt(2 * std::log(static_cast<double>(width_)) /
                         static_cast<double>(depth_)));
    if (null_.has_value()) {
      add("null.single_mean", null_->single_mean);
      add("null.single_sd", null_->single_sd);
      add("null.joint_mean", null_->joint_mean);
      add("null.joint_sd", null_->joint_sd);
      add("null.single_error", null_->single_error);
      add("null.joint_error", null_->joint_error);
      add("null.single_sd_error", null_->single_sd_error);
      add("null.joint_sd_error", null_->joint_sd_error);
      chunk.arrays.push_back(
          spec::MakeCount(internal::LayerName(layer, "null.simulated_width"),
                          null_->simulated_width));
    }
    return chunk;
  }

  absl::StatusOr<Participant> Find(std::int64_t place,
                                   std::int64_t layer) const {
    const std::string& name =
        spec_.participants[static_cast<std::size_t>(place)];
    MOESCOPE_ASSIGN_OR_RETURN(
        std::vector<Participant> found,
        internal::FindParticipants({name}, layer, inputs_));
    return std::move(found[0]);
  }

  absl::StatusOr<spec::Chunk> PairChunk(std::int64_t layer, std::int64_t pair,
                                        ThreadPool& pool,
                                        const RunContext& context) {
    const auto at = static_cast<std::size_t>(2 * pair);
    MOESCOPE_ASSIGN_OR_RETURN(const Participant left,
                              Find(spec_.pairs[at], layer));
    MOESCOPE_ASSIGN_OR_RETURN(const Participant right,
                              Find(spec_.pairs[at + 1], layer));
    std::unique_ptr<internal::MatchingMemory> memory = memories_.Take();
    if (OnDevice() && !memory->device.has_value()) {
      memory->device.emplace(inputs_.device);
    }
    spec::Chunk chunk;
    for (const std::string& projection : spec_.projections) {
      MOESCOPE_ASSIGN_OR_RETURN(
          const MatchedPart part,
          internal::MatchPart(left.weights, right.weights, projection, pool,
                              context, *memory));
      AddPart(internal::LayerName(layer, absl::StrCat(projection, ".")),
              projection == "joint", part, chunk);
    }
    memories_.Return(std::move(memory));
    return chunk;
  }

  void AddPart(const std::string& prefix, bool joint, const MatchedPart& part,
               spec::Chunk& chunk) const {
    const auto add = [&](const std::string& name, double value) {
      chunk.arrays.push_back(spec::MakeArray(prefix + name, {1},
                                             absl::MakeConstSpan(&value, 1)));
    };
    const auto count = [&](const char* name, std::int64_t value) {
      chunk.arrays.push_back(spec::MakeArray(prefix + name, {1},
                                             absl::MakeConstSpan(&value, 1)));
    };
    chunk.arrays.push_back(spec::MakeArray(
        prefix + "permutation", {1, width_},
        absl::MakeConstSpan(part.permutation)));
    add("objective", part.objective);
    add("mean_matched_cosine", part.mean_matched_cosine);
    add("kendall_tau", part.kendall_tau);
    count("fixed_points", part.fixed_points);
    for (const internal::FlattenedCosines& flattened : part.flattened) {
      const std::string key =
          joint ? absl::StrCat(flattened.projection, ".") : "";
      add(key + "cosine_before", flattened.before);
      add(key + "cosine_after", flattened.after);
      add(key + "growth", flattened.after - flattened.before);
      add(key + "growth_ratio", flattened.after / flattened.before);
    }
    count("objective_quantised", part.objective_quantised);
    count("dual_quantised", part.dual_quantised);
    count("gap", part.gap);
    count("nonfinite", part.nonfinite);
    if (null_.has_value()) {
      const double mean = joint ? null_->joint_mean : null_->single_mean;
      const double sd = joint ? null_->joint_sd : null_->single_sd;
      add("z", (part.mean_matched_cosine - mean) / sd);
    }
  }

  const spec::NeuronMatchingSpec& spec_;
  const ModelInputs& inputs_;
  const std::int64_t width_;
  const std::int64_t depth_;
  const std::int64_t num_pairs_;
  std::optional<numerics::MatchingNull> null_;
  FreeList<internal::MatchingMemory> memories_;
};

}  // namespace

absl::Status RunNeuronMatching(const spec::NeuronMatchingSpec& spec,
                               const ModelInputs& inputs,
                               const ResumePoint& resume, ThreadPool& pool,
                               const RunContext& context, ChunkSink& sink) {
  if (inputs.checkpoint == nullptr) {
    return absl::InternalError("neuron_matching without a checkpoint");
  }
  Matching matching(spec, inputs);
  const std::int64_t total = matching.num_chunks();
  if (resume.chunks >= total) {
    return absl::OkStatus();
  }
  MOESCOPE_RETURN_IF_ERROR(matching.DrawNull(pool, context));
  internal::OrderedEmitter emitter(
      resume.chunks, std::max<std::int64_t>(kChunksAhead, 4 * pool.num_threads()),
      sink, {"neuron matching", resume.chunks, total, "chunks"}, context);
  const std::int64_t at_once = matching.MostAtOnce(total - resume.chunks, pool);
  for (std::int64_t first = resume.chunks; first < total; first += at_once) {
    const auto emit = [&](std::int64_t i) {
      return emitter.Emit(first + i, [&]() -> absl::StatusOr<spec::Chunk> {
        MOESCOPE_RETURN_IF_ERROR(context.Check());
        return matching.MakeChunk(first + i, pool, context);
      });
    };
    MOESCOPE_RETURN_IF_ERROR(
        pool.ParallelFor(std::min(at_once, total - first), emit));
  }
  return absl::OkStatus();
}

}  // namespace moescope::analysis
