#include "client/cli/result_view.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "client/cli/heat_map.h"
#include "client/cli/table.h"

#include "moescope/codec/messages.h"

namespace moescope::client {
namespace {

// Columns of a trace before the rest of the routers is only counted.
constexpr std::size_t kMaxColumnsShown = 8;

std::string TimeText(const google::protobuf::Timestamp& time) {
  return absl::FormatTime(
      absl::RFC3339_full,
      absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos()),
      absl::UTCTimeZone());
}

const spec::Array* Find(absl::Span<const spec::Array> arrays,
                        absl::string_view name) {
  for (const spec::Array& array : arrays) {
    if (array.name == name) {
      return &array;
    }
  }
  return nullptr;
}

// Where each token shown stands: its sequence and its place in it, from 0 on.
struct TokenPlaces {
  std::vector<std::size_t> sequences;
  std::vector<std::size_t> positions;
  bool several = false;
};

TokenPlaces FindPlaces(absl::Span<const spec::Array> arrays,
                       std::size_t shown) {
  TokenPlaces places;
  std::vector<double> lengths;
  if (const spec::Array* array = Find(arrays, "sequence_lengths");
      array != nullptr) {
    lengths = spec::ToDoubles(*array);
  }
  places.several = lengths.size() > 1;
  std::size_t sequence = 0;
  std::size_t position = 0;
  for (std::size_t t = 0; t < shown; ++t) {
    while (sequence < lengths.size() &&
           position >= static_cast<std::size_t>(lengths[sequence])) {
      ++sequence;
      position = 0;
    }
    places.sequences.push_back(sequence);
    places.positions.push_back(position++);
  }
  return places;
}

constexpr const char* kTokensByMask = "tokens_by_mask";

// A router that chose experts.
struct TracedRouter {
  std::int64_t layer = 0;
  bool of_attention = false;

  bool operator<(const TracedRouter& other) const {
    return std::tie(layer, of_attention) <
           std::tie(other.layer, other.of_attention);
  }
  std::string Array(absl::string_view name) const {
    return absl::StrCat("layer.", layer, of_attention ? ".attention_" : ".",
                        name);
  }
  std::string Title() const {
    return absl::StrCat("layer ", layer, of_attention ? " attention" : "");
  }
};

// By layer, the attention's router after that of the experts.
std::vector<TracedRouter> TracedRouters(absl::Span<const spec::Array> arrays) {
  std::vector<TracedRouter> routers;
  for (const spec::Array& array : arrays) {
    const std::vector<absl::string_view> parts =
        absl::StrSplit(array.name, '.');
    TracedRouter router;
    if (parts.size() != 3 || array.shape.size() != 2 ||
        !absl::SimpleAtoi(parts[1], &router.layer)) {
      continue;
    }
    router.of_attention = parts[2] == "attention_topk_ids";
    if (router.of_attention || parts[2] == "topk_ids") {
      routers.push_back(router);
    }
  }
  std::sort(routers.begin(), routers.end());
  return routers;
}

// One router's experts of every token, ready to be printed.
struct RouterColumn {
  std::vector<double> ids;
  std::vector<double> weights;
  std::size_t experts_per_token = 0;

  std::string Cell(std::size_t token) const {
    std::vector<std::string> parts;
    for (std::size_t k = 0; k < experts_per_token; ++k) {
      const std::size_t at = token * experts_per_token + k;
      if (at >= ids.size()) {
        break;
      }
      std::string part = absl::StrFormat("%.0f", ids[at]);
      if (at < weights.size()) {
        absl::StrAppend(&part, absl::StrFormat(":%.2f", weights[at]));
      }
      parts.push_back(std::move(part));
    }
    return absl::StrJoin(parts, " ");
  }
};

RouterColumn MakeColumn(absl::Span<const spec::Array> arrays,
                        const TracedRouter& router) {
  RouterColumn column;
  const spec::Array* ids = Find(arrays, router.Array("topk_ids"));
  const spec::Array* weights = Find(arrays, router.Array("topk_weights"));
  column.ids = spec::ToDoubles(*ids);
  column.experts_per_token = static_cast<std::size_t>(ids->shape[1]);
  if (weights != nullptr) {
    column.weights = spec::ToDoubles(*weights);
  }
  return column;
}

// Names of arrays of layers that have no column in a trace's table.
std::vector<std::string> WithoutColumn(absl::Span<const spec::Array> arrays) {
  std::vector<std::string> names;
  for (const spec::Array& array : arrays) {
    const std::vector<std::string> parts = absl::StrSplit(array.name, '.');
    // The weights stand beside the ids.
    const std::string column = absl::StrReplaceAll(
        array.name, {{"topk_weights", "topk_ids"}});
    const bool shown =
        absl::EndsWith(column, "topk_ids") && Find(arrays, column) != nullptr;
    if (parts.size() == 3 && !shown && parts[2] != kTokensByMask &&
        std::count(names.begin(), names.end(), parts[2]) == 0) {
      names.push_back(parts[2]);
    }
  }
  return names;
}

// How many choices hang on what experts of masked groups compare as; empty for
// a model without groups.
std::string MaskText(absl::Span<const spec::Array> arrays) {
  double dependent = 0;
  std::int64_t layers = 0;
  for (const spec::Array& array : arrays) {
    if (!absl::EndsWith(array.name, absl::StrCat(".", kTokensByMask))) continue;
    ++layers;
    for (const double tokens : spec::ToDoubles(array)) dependent += tokens;
  }
  if (layers == 0) return "";
  const spec::Array* ids = Find(arrays, "input_ids");
  return absl::StrFormat(
      "masked groups: %.0f of %d choices (tokens times layers) would be of "
      "other experts if those compared as 0 instead of -infinity, or the other "
      "way round\n",
      dependent, ids->num_elements() * layers);
}

std::string Summary(const spec::Array& array) {
  const std::vector<double> values = spec::ToDoubles(array);
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  double sum = 0;
  std::size_t finite = 0;
  for (const double value : values) {
    if (std::isfinite(value)) {
      low = std::min(low, value);
      high = std::max(high, value);
      sum += value;
      ++finite;
    }
  }
  if (finite == 0) {
    return "no finite value";
  }
  if (array.dtype == spec::DType::kInt64) {
    // Most are numbers of experts, neurons or tokens.
    return absl::StrFormat("%.0f .. %.0f", low, high);
  }
  std::string out = absl::StrFormat("%.5g .. %.5g .. %.5g", low,
                                    sum / static_cast<double>(finite), high);
  if (finite < values.size()) {
    absl::StrAppend(&out, ", ", values.size() - finite, " not finite");
  }
  return out;
}

std::vector<spec::Array> FromMessages(
    const google::protobuf::RepeatedPtrField<v1::Array>& messages) {
  std::vector<spec::Array> arrays;
  for (const v1::Array& message : messages) {
    // An array that contradicts itself is left out of the view; a file gets
    // the error.
    if (auto array = codec::ArrayFromMessage(message); array.ok()) {
      arrays.push_back(*std::move(array));
    }
  }
  return arrays;
}

std::string WithoutLayer(const std::string& name, std::int64_t layer) {
  const std::string prefix = absl::StrCat("layer.", layer, ".");
  return absl::StartsWith(name, prefix) ? name.substr(prefix.size()) : name;
}

// Columns of one table: arrays [N] of one projection, or of none.
struct ColumnGroup {
  std::vector<std::string> header = {"expert"};
  std::vector<std::vector<double>> columns;

  std::string Text(const std::vector<std::string>& participants) const {
    Table table(header);
    for (std::size_t i = 0; i < participants.size(); ++i) {
      std::vector<std::string> row = {participants[i]};
      for (const std::vector<double>& column : columns) {
        row.push_back(absl::StrFormat("%.5g", column[i]));
      }
      table.Add(std::move(row));
    }
    return table.Text();
  }
};

// Arrays [N] side by side, a table per projection and a row per participant;
// the rest summarised.
std::string LayerTable(std::vector<spec::Array> arrays, std::int64_t layer,
                       const std::vector<std::string>& participants) {
  std::map<std::string, ColumnGroup> groups;
  std::vector<spec::Array> others;
  const auto rows = static_cast<std::int64_t>(participants.size());
  for (spec::Array& array : arrays) {
    const std::string name = WithoutLayer(array.name, layer);
    if (array.shape == std::vector<std::int64_t>{rows}) {
      const std::size_t dot = name.find('.');
      const bool grouped = dot != std::string::npos;
      ColumnGroup& group = groups[grouped ? name.substr(0, dot) : ""];
      group.header.push_back(grouped ? name.substr(dot + 1) : name);
      group.columns.push_back(spec::ToDoubles(array));
    } else {
      array.name = name;
      others.push_back(std::move(array));
    }
  }
  std::string out;
  for (const auto& [projection, group] : groups) {
    if (!projection.empty()) absl::StrAppend(&out, projection, "\n");
    absl::StrAppend(&out, group.Text(participants));
  }
  return others.empty() ? out : out + ArraysText(others);
}

}  // namespace

std::map<std::string, std::string> ProvenanceStrings(
    const v1::Result& result, const std::string& prefix) {
  const v1::Provenance& from = result.provenance();
  std::map<std::string, std::string> out;
  const auto put = [&](const std::string& key, const std::string& value) {
    if (!value.empty()) {
      out[prefix + key] = value;
    }
  };
  put("analysis", from.analysis());
  put("analysis_version", absl::StrCat(from.analysis_version()));
  put("models", absl::StrJoin(from.models(), ","));
  put("model_identities", absl::StrJoin(from.model_identities(), ","));
  put("spec", from.spec_json());
  put("tokens_digest", from.tokens_digest());
  put("numerics_class", from.numerics_class());
  put("routing", from.routing());
  for (const v1::LibraryVersion& version : from.versions()) {
    put(absl::StrCat("version.", version.name()), version.version());
  }
  if (from.has_start_time()) {
    put("started", TimeText(from.start_time()));
  }
  if (from.has_end_time()) {
    put("finished", TimeText(from.end_time()));
  }
  put("result", result.name());
  put("digest", result.digest());
  return out;
}

std::vector<std::int32_t> TokensToShow(absl::Span<const spec::Array> arrays) {
  std::vector<std::int32_t> out;
  const spec::Array* ids = Find(arrays, "input_ids");
  if (ids == nullptr) {
    return out;
  }
  for (const double id : spec::ToDoubles(*ids)) {
    if (out.size() == kMaxTokensShown) {
      break;
    }
    out.push_back(static_cast<std::int32_t>(id));
  }
  return out;
}

std::string TraceText(absl::Span<const spec::Array> arrays,
                      absl::Span<const v1::Token> tokens) {
  const std::vector<std::int32_t> ids = TokensToShow(arrays);
  const std::vector<TracedRouter> routers = TracedRouters(arrays);
  if (ids.empty() || routers.empty()) {
    return ArraysText(arrays);
  }
  const std::size_t shown = std::min(routers.size(), kMaxColumnsShown);
  const TokenPlaces places = FindPlaces(arrays, ids.size());
  std::vector<std::string> header = {"pos", "id", "token"};
  if (places.several) {
    header.insert(header.begin(), "seq");
  }
  std::vector<RouterColumn> columns;
  for (std::size_t i = 0; i < shown; ++i) {
    header.push_back(routers[i].Title());
    columns.push_back(MakeColumn(arrays, routers[i]));
  }
  Table table(header);
  for (std::size_t t = 0; t < ids.size(); ++t) {
    std::vector<std::string> row = {
        absl::StrCat(places.positions[t]), absl::StrCat(ids[t]),
        t < tokens.size() ? QuotedToken(tokens[t].text()) : ""};
    if (places.several) {
      row.insert(row.begin(), absl::StrCat(places.sequences[t]));
    }
    for (const RouterColumn& column : columns) {
      row.push_back(column.Cell(t));
    }
    table.Add(std::move(row));
  }
  std::string out = table.Text();
  const auto total =
      static_cast<std::size_t>(Find(arrays, "input_ids")->num_elements());
  if (total > ids.size() || routers.size() > shown) {
    absl::StrAppend(
        &out, "and ", total - ids.size(), " more tokens, ",
        routers.size() - shown,
        " more columns: choose with --layers, or write all with -o\n");
  }
  if (const auto names = WithoutColumn(arrays); !names.empty()) {
    absl::StrAppend(&out, "not shown: ", absl::StrJoin(names, ", "),
                    "; write all with -o\n");
  }
  return out + MaskText(arrays);
}

std::string LeftOutText(const v1::ComputeExpertSimilarityResponse& response,
                        absl::string_view participant) {
  std::map<std::string, bool> takes_part;  // by level
  for (const v1::ExpertSimilarityLayer& layer : response.layers()) {
    for (const v1::SimilarityMatrix& matrix : layer.matrices()) {
      takes_part[matrix.level()] |=
          std::count(matrix.participants().begin(),
                     matrix.participants().end(),
                     std::string(participant)) > 0;
    }
  }
  std::vector<std::string> without;
  for (const auto& [level, there] : takes_part) {
    if (!there) {
      without.push_back(level == "router"
                            ? "router (it has no router row)"
                            : level + " (its shape is not an expert's)");
    }
  }
  return without.empty()
             ? ""
             : absl::StrCat(participant, " left out: ",
                            absl::StrJoin(without, ", "), "\n");
}

std::string SimilarityText(const v1::ComputeExpertSimilarityResponse& response,
                           bool plain) {
  std::string out;
  for (const v1::ExpertSimilarityLayer& layer : response.layers()) {
    for (const v1::SimilarityMatrix& matrix : layer.matrices()) {
      const auto array = codec::ArrayFromMessage(matrix.values());
      const std::vector<std::string> names(matrix.participants().begin(),
                                           matrix.participants().end());
      absl::StrAppend(&out, "layer ", layer.layer(), ", ", matrix.level(),
                      matrix.projection().empty() ? "" : " ",
                      matrix.projection(), "\n");
      if (!array.ok() ||
          array->num_elements() !=
              static_cast<std::int64_t>(names.size() * names.size())) {
        out += "  not a square matrix over its participants\n";
        continue;
      }
      absl::StrAppend(&out, HeatMap(names, spec::ToDoubles(*array), plain),
                      "\n");
    }
  }
  return out;
}

std::string ArraysText(absl::Span<const spec::Array> arrays) {
  Table table({"array", "type", "shape", "smallest .. mean .. largest"});
  for (const spec::Array& array : arrays) {
    const std::string name(spec::DTypeName(array.dtype));
    if (array.shape.empty()) {
      table.Add({array.name, name, "",
                 absl::StrFormat("%.10g", spec::ToDoubles(array).front())});
    } else {
      table.Add({array.name, name,
                 absl::StrCat("[", absl::StrJoin(array.shape, ", "), "]"),
                 Summary(array)});
    }
  }
  return table.Text();
}

std::string NeuronsText(const v1::ComputeNeuronStatisticsResponse& response) {
  std::string out;
  for (const v1::NeuronStatisticsLayer& layer : response.layers()) {
    const std::vector<std::string> participants(layer.participants().begin(),
                                                layer.participants().end());
    absl::StrAppend(
        &out, "layer ", layer.layer(), ", weights\n",
        LayerTable(FromMessages(layer.weights()), layer.layer(), participants),
        "\n");
    if (!layer.activations().empty()) {
      // Rows of activations are the routed experts: names that are numbers.
      std::vector<std::string> routed = participants;
      routed.erase(std::remove_if(routed.begin(), routed.end(),
                                  [](const std::string& name) {
                                    return name == "S" || name == "F";
                                  }),
                   routed.end());
      absl::StrAppend(
          &out, "layer ", layer.layer(), ", activations\n",
          LayerTable(FromMessages(layer.activations()), layer.layer(), routed),
          "\n");
    }
  }
  return out;
}

}  // namespace moescope::client
