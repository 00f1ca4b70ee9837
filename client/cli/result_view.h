#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/export/result_document.h"

#include "moescope/v1/analysis.pb.h"
#include "moescope/v1/model.pb.h"
#include "moescope/v1/result.pb.h"

namespace moescope::client {

/// Provenance as strings: "analysis", "analysis_version", "models",
/// "model_identities" (both comma-separated), "spec", "tokens_digest",
/// "numerics_class", "routing", "version.<library>", "started", "finished" (RFC
/// 3339, UTC), "result", "digest"; what is empty is left out. `prefix` goes
/// before each.
std::map<std::string, std::string> ProvenanceStrings(const v1::Result& result,
                                                     const std::string& prefix);

/// Tokens that a trace shows before it says how many more there are.
inline constexpr std::size_t kMaxTokensShown = 200;

/// The ids that TraceText will show, for Tokenize.
std::vector<std::int32_t> TokensToShow(absl::Span<const spec::Array> arrays);

/// A line per token: its sequence where there are several, its position there,
/// id, its text (`tokens`, may be shorter), then
/// per layer the chosen experts with their weights. Below, each where there is
/// something to say: what is cut off, the names of other arrays of layers (they
/// are for files), and how many choices hang on the convention for masked
/// groups (tokens_by_mask). Without chosen experts: ArraysText.
std::string TraceText(absl::Span<const spec::Array> arrays,
                      absl::Span<const v1::Token> tokens);

/// One line naming the levels at which `participant` ("S", "F"), which was asked
/// for, takes no part, and why; empty where it takes part in all of them.
std::string LeftOutText(const v1::ComputeExpertSimilarityResponse& response,
                        absl::string_view participant);

/// A heat map per layer, level and projection.
std::string SimilarityText(const v1::ComputeExpertSimilarityResponse& response,
                           bool plain);

/// Name, shape, smallest, mean and largest value of each array; of whole numbers,
/// which may be those of experts, without the mean; of a scalar, its value.
std::string ArraysText(absl::Span<const spec::Array> arrays);

/// Per layer a table with a row per participant and a column per array of one
/// value each, then the summary of the others.
std::string NeuronsText(const v1::ComputeNeuronStatisticsResponse& response);

}  // namespace moescope::client
