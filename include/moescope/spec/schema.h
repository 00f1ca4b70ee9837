#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "moescope/spec/array.h"

namespace moescope::spec {

/// One family of arrays that an analysis emits.
struct ArrayDeclaration {
  /// Name with placeholders in braces: "layer.{layer}.{projection}.matrix".
  /// {layer}, {index}: digits. {projection}: gate_proj|up_proj|down_proj.
  std::string pattern;
  DType dtype = DType::kFloat32;
  /// Letters of model/shapes.h: {"N", "N"}; empty for a scalar. A number is
  /// itself; "*" is any length.
  std::vector<std::string> shape;
  /// "1" for pure numbers, "token id", "nats", ...
  std::string unit;
  /// One sentence.
  std::string meaning;
};

/// Everything an analysis may emit.
struct ResultSchema {
  std::vector<ArrayDeclaration> arrays;

  /// The declaration that `name` matches; nullptr when none does.
  const ArrayDeclaration* Find(absl::string_view name) const;
  /// INTERNAL when an array of `chunk` is not declared, or has another dtype or
  /// number of dimensions than declared.
  absl::Status Check(const Chunk& chunk) const;
};

/// One parameter of an analysis, for ListAnalyses and `analyses describe`.
struct ParameterInfo {
  std::string name;
  std::string type;           ///< "int64", "list of string", ...
  std::string default_value;  ///< As JSON.
  std::string meaning;        ///< Allowed values included.
};

/// What an analysis is, for people and for clients.
struct AnalysisInfo {
  std::string name;
  int version = 1;
  std::string summary;     ///< One sentence.
  std::string definition;  ///< Formula in words.
  std::string source;      ///< Where it is defined in the literature.
  bool needs_tokens = false;
  /// Whether the forward pass must be known (false: weights are enough).
  bool needs_forward = false;
  bool needs_moe = true;
  std::vector<ParameterInfo> parameters;
  ResultSchema schema;
};

}  // namespace moescope::spec
