#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

#include "moescope/base/status_macros.h"
#include "moescope/codec/messages.h"

namespace moescope::codec {
namespace {

// Room for what a reply holds beside arrays: header and provenance.
constexpr std::int64_t kHeaderBytes = 64 << 10;

// One layer's arrays by the name that follows "layer.L.", in name order.
using LayerArrays = std::map<std::string, spec::Array>;

bool TooLarge(const std::vector<spec::Chunk>& chunks, std::int64_t& bytes) {
  for (const spec::Chunk& chunk : chunks) {
    for (const spec::Array& array : chunk.arrays) {
      bytes +=
          static_cast<std::int64_t>(array.bytes.size() + array.name.size()) +
          64;
    }
  }
  return bytes > kMaxUnaryReplyBytes - kHeaderBytes;
}

absl::Status Stray(absl::string_view name) {
  return absl::InternalError(
      absl::StrCat("array \"", name, "\" has no place in the reply"));
}

// Arrays of no layer go to `totals`.
absl::StatusOr<std::map<std::int64_t, LayerArrays>> ByLayer(
    std::vector<spec::Chunk> chunks, std::vector<spec::Array>& totals) {
  MOESCOPE_ASSIGN_OR_RETURN(std::vector<spec::Array> arrays,
                            spec::Concatenate(std::move(chunks)));
  std::map<std::int64_t, LayerArrays> layers;
  for (spec::Array& array : arrays) {
    absl::string_view rest = array.name;
    std::int64_t layer = 0;
    if (absl::StartsWith(rest, "total.")) {
      totals.push_back(std::move(array));
      continue;
    }
    if (!absl::ConsumePrefix(&rest, "layer.")) {
      return Stray(array.name);
    }
    const auto dot = rest.find('.');
    if (dot == absl::string_view::npos ||
        !absl::SimpleAtoi(rest.substr(0, dot), &layer)) {
      return Stray(array.name);
    }
    const std::string key(rest.substr(dot + 1));
    layers[layer].emplace(key, std::move(array));
  }
  return layers;
}

bool IsRouted(const std::string& participant) {
  return participant != "S" && participant != "F";
}

std::string ParticipantName(std::int64_t number) {
  if (number == spec::kSharedParticipant) {
    return "S";
  }
  return number == spec::kBaselineParticipant ? "F" : absl::StrCat(number);
}

// Whom the `count` rows of `array` stand for. `listed` is the result's own word
// on it, nullptr when it has none.
absl::StatusOr<std::vector<std::string>> RowsOf(
    const std::vector<std::string>& participants, const spec::Array& array,
    const spec::Array* listed) {
  const std::int64_t count = array.shape.empty() ? 0 : array.shape[0];
  std::vector<std::string> names;
  if (listed != nullptr) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::int64_t> numbers,
                              spec::ToInt64s(*listed));
    for (const std::int64_t number : numbers) {
      names.push_back(ParticipantName(number));
    }
  } else if (count == static_cast<std::int64_t>(participants.size())) {
    names = participants;
  } else {
    std::copy_if(participants.begin(), participants.end(),
                 std::back_inserter(names), IsRouted);
  }
  if (static_cast<std::int64_t>(names.size()) != count) {
    return absl::InternalError(absl::StrCat("array \"", array.name,
                                            "\": who its ", count,
                                            " rows are is not told"));
  }
  return names;
}

// Takes the array called `key`; an empty optional when there is none.
std::optional<spec::Array> Take(LayerArrays& arrays, const std::string& key) {
  const auto found = arrays.find(key);
  if (found == arrays.end()) {
    return std::nullopt;
  }
  spec::Array array = std::move(found->second);
  arrays.erase(found);
  return array;
}

absl::Status AddMatrix(const spec::ExpertSimilaritySpec& spec,
                       const std::string& level, const std::string& projection,
                       const std::optional<spec::Array>& listed,
                       LayerArrays& arrays, v1::ExpertSimilarityLayer& layer) {
  const std::optional<spec::Array> values =
      Take(arrays,
           projection.empty() ? level : absl::StrCat(projection, ".", level));
  if (!values.has_value()) {
    return absl::OkStatus();
  }
  MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                            RowsOf(spec.participants, *values,
                                   listed.has_value() ? &*listed : nullptr));
  v1::SimilarityMatrix& matrix = *layer.add_matrices();
  matrix.set_level(level);
  matrix.set_projection(projection);
  matrix.mutable_participants()->Assign(names.begin(), names.end());
  *matrix.mutable_values() = ToMessage(*values);
  return absl::OkStatus();
}

absl::Status AddLayer(const spec::ExpertSimilaritySpec& spec,
                      LayerArrays arrays, v1::ExpertSimilarityLayer& layer) {
  for (const std::string& level : spec.levels) {
    const std::optional<spec::Array> listed =
        Take(arrays, absl::StrCat(level, "_participants"));
    if (level == "router") {
      MOESCOPE_RETURN_IF_ERROR(
          AddMatrix(spec, level, "", listed, arrays, layer));
      continue;
    }
    for (const std::string& projection : spec.projections) {
      const std::optional<spec::Array> own = Take(
          arrays, absl::StrCat(projection, ".", level, "_participants"));
      MOESCOPE_RETURN_IF_ERROR(
          AddMatrix(spec, level, projection, own.has_value() ? own : listed,
                    arrays, layer));
    }
  }
  for (const auto& [key, array] : arrays) {
    if (!absl::EndsWith(key, ".nonfinite")) {
      return Stray(array.name);
    }
    *layer.add_details() = ToMessage(array);
  }
  return absl::OkStatus();
}

absl::Status AddWeights(const spec::NeuronWeightStatisticsSpec& spec,
                        LayerArrays arrays, v1::NeuronStatisticsLayer& layer) {
  std::optional<spec::Array> listed = Take(arrays, "weights_participants");
  // All projections of a layer have the same participants.
  for (const std::string& projection : spec.projections) {
    const std::optional<spec::Array> own =
        Take(arrays, absl::StrCat(projection, ".participants"));
    if (own.has_value()) {
      listed = own;
    }
  }
  for (const auto& [key, array] : arrays) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                              RowsOf(spec.participants, array,
                                     listed.has_value() ? &*listed : nullptr));
    layer.mutable_participants()->Assign(names.begin(), names.end());
    *layer.add_weights() = ToMessage(array);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::ComputeExpertSimilarityResponse> FoldExpertSimilarity(
    const spec::ExpertSimilaritySpec& spec, std::vector<spec::Chunk> chunks) {
  v1::ComputeExpertSimilarityResponse response;
  std::int64_t bytes = 0;
  if (TooLarge(chunks, bytes)) {
    response.set_too_large(true);
    return response;
  }
  std::vector<spec::Array> totals;
  MOESCOPE_ASSIGN_OR_RETURN(auto layers, ByLayer(std::move(chunks), totals));
  if (!totals.empty()) {
    return Stray(totals.front().name);
  }
  for (auto& [number, arrays] : layers) {
    v1::ExpertSimilarityLayer& layer = *response.add_layers();
    layer.set_layer(number);
    MOESCOPE_RETURN_IF_ERROR(AddLayer(spec, std::move(arrays), layer));
  }
  return response;
}

absl::StatusOr<v1::ComputeNeuronStatisticsResponse> FoldNeuronStatistics(
    const spec::NeuronWeightStatisticsSpec& spec,
    std::vector<spec::Chunk> weights, std::vector<spec::Chunk> activations) {
  v1::ComputeNeuronStatisticsResponse response;
  std::int64_t bytes = 0;
  if (TooLarge(weights, bytes) || TooLarge(activations, bytes)) {
    response.set_too_large(true);
    return response;
  }
  std::vector<spec::Array> totals;
  MOESCOPE_ASSIGN_OR_RETURN(auto weight_layers,
                            ByLayer(std::move(weights), totals));
  MOESCOPE_ASSIGN_OR_RETURN(auto activation_layers,
                            ByLayer(std::move(activations), totals));
  for (const spec::Array& total : totals) {
    *response.add_activation_totals() = ToMessage(total);
  }
  for (auto& [number, arrays] : weight_layers) {
    v1::NeuronStatisticsLayer& layer = *response.add_layers();
    layer.set_layer(number);
    MOESCOPE_RETURN_IF_ERROR(AddWeights(spec, std::move(arrays), layer));
    for (const auto& [key, array] : activation_layers[number]) {
      *layer.add_activations() = ToMessage(array);
    }
    activation_layers.erase(number);
  }
  if (!activation_layers.empty()) {
    return absl::InternalError(
        absl::StrCat("layer ", activation_layers.begin()->first,
                     " has activation statistics alone"));
  }
  return response;
}

}  // namespace moescope::codec
