#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "moescope/spec/analysis_spec.h"

namespace moescope::codec {

// Specs as JSON parameters. Threads: all functions are safe.

/// The Spec as one JSON object, fields in the order of VisitFields. A token
/// input of more than 64 tokens, or 4096 bytes of labels, is shown as {"tokens":
/// T, "sequences": S, "digest": "…"}, a shorter one with its "ids", "lengths" and
/// "labels"; a list of more than 1024 values as {"values": N, "digest": SHA-256
/// of its JSON}.
std::string SpecToJson(const spec::AnalysisSpec& spec);

/// Sets the parameter `name` to the value that `json` holds, as `--set
/// name=json` does. A word that is no JSON is taken as a string, or, for a list
/// of strings, as comma-separated words; a single value sets a list of one.
/// The token input takes a list of ids, or of lists of ids (one per sequence).
/// Errors: INVALID_ARGUMENT, field "spec.<name>" (unknown name, with the
/// analysis' parameter names; value of another type). `spec` then stays as it
/// was.
absl::Status SetFromJson(spec::AnalysisSpec& spec, absl::string_view name,
                         absl::string_view json);

}  // namespace moescope::codec
