#include "server/model/families/rope_config_internal.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/families/decoder_internal.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {
namespace {

// Of transformers 5 and 4.
constexpr const char* kNewKey = "rope_parameters";
constexpr const char* kOldKey = "rope_scaling";
constexpr const char* kKindKey = "rope_type";
constexpr const char* kOldKindKey = "type";

absl::Status ParseYarn(const ConfigReader& object, const RopeBase& base,
                       RopeConfig& rope) {
  MOESCOPE_ASSIGN_OR_RETURN(rope.original_positions,
                            object.IntegerOr("original_max_position_embeddings",
                                             base.max_positions,
                                             kPositionRange));
  const double stretch = static_cast<double>(base.max_positions) /
                         static_cast<double>(rope.original_positions);
  if (rope.theta <= 1) {
    return absl::DataLossError(absl::StrCat(
        "rope_theta: is ", rope.theta, ", must be above 1 for yarn"));
  }
  MOESCOPE_ASSIGN_OR_RETURN(rope.factor,
                            object.PositiveRealOr("factor", stretch));
  MOESCOPE_ASSIGN_OR_RETURN(rope.beta_fast,
                            object.PositiveRealOr("beta_fast", 32));
  MOESCOPE_ASSIGN_OR_RETURN(rope.beta_slow,
                            object.PositiveRealOr("beta_slow", 1));
  MOESCOPE_ASSIGN_OR_RETURN(rope.truncate, object.BoolOr("truncate", true));
  MOESCOPE_ASSIGN_OR_RETURN(const double numerator,
                            object.NonNegativeRealOr("mscale", 0));
  MOESCOPE_ASSIGN_OR_RETURN(const double denominator,
                            object.NonNegativeRealOr("mscale_all_dim", 0));
  // Either alone counts for nothing, as does a 0.
  const double implied =
      numerator != 0 && denominator != 0
          ? YarnMagnitude(rope.factor, numerator) /
                YarnMagnitude(rope.factor, denominator)
          : YarnMagnitude(rope.factor, 1);
  MOESCOPE_ASSIGN_OR_RETURN(
      rope.attention_factor,
      object.PositiveRealOr("attention_factor", implied));
  return absl::OkStatus();
}

const char* ObjectKey(const ConfigReader& json) {
  return json.Has(kNewKey) ? kNewKey : kOldKey;
}

// `outer` stands under `key` of config.json itself, `inner` in the object of
// positions. Which of them counts changed between releases of transformers.
absl::Status Disagree(const ConfigReader& json, const char* key, double outer,
                      double inner) {
  return absl::DataLossError(absl::StrCat(key, ": is ", outer, ", but ",
                                          ObjectKey(json), ".", key, " is ",
                                          inner, "; they must agree"));
}

absl::StatusOr<std::vector<double>> ParsePairFactors(const ConfigReader& object,
                                                     const char* key,
                                                     std::int64_t pairs) {
  MOESCOPE_ASSIGN_OR_RETURN(std::vector<double> factors,
                            object.PositiveReals(key));
  if (static_cast<std::int64_t>(factors.size()) != pairs) {
    return absl::DataLossError(absl::StrCat(
        key, ": has ", factors.size(), " numbers, must have ", pairs));
  }
  return factors;
}

absl::Status ParseLongrope(const ConfigReader& json, const ConfigReader& object,
                           const RopeBase& base, RopeConfig& rope) {
  constexpr const char* kOriginal = "original_max_position_embeddings";
  const ConfigReader& holder = object.Has(kOriginal) ? object : json;
  MOESCOPE_ASSIGN_OR_RETURN(rope.original_positions,
                            holder.Integer(kOriginal, kPositionRange));
  MOESCOPE_ASSIGN_OR_RETURN(
      const std::int64_t outer,
      json.IntegerOr(kOriginal, rope.original_positions, kPositionRange));
  if (outer != rope.original_positions) {
    return Disagree(json, kOriginal, static_cast<double>(outer),
                    static_cast<double>(rope.original_positions));
  }
  const std::int64_t pairs = rope.dim / 2;
  MOESCOPE_ASSIGN_OR_RETURN(rope.short_factors,
                            ParsePairFactors(object, "short_factor", pairs));
  MOESCOPE_ASSIGN_OR_RETURN(rope.long_factors,
                            ParsePairFactors(object, "long_factor", pairs));
  const auto original = static_cast<double>(rope.original_positions);
  const double stretch = static_cast<double>(base.max_positions) / original;
  MOESCOPE_ASSIGN_OR_RETURN(rope.factor,
                            object.PositiveRealOr("factor", stretch));
  const double implied =
      rope.factor <= 1
          ? 1.0
          : std::sqrt(1 + std::log(rope.factor) / std::log(original));
  MOESCOPE_ASSIGN_OR_RETURN(
      const double factor, object.PositiveRealOr("attention_factor", implied));
  MOESCOPE_ASSIGN_OR_RETURN(rope.attention_factor,
                            object.PositiveRealOr("short_mscale", factor));
  MOESCOPE_ASSIGN_OR_RETURN(rope.long_attention_factor,
                            object.PositiveRealOr("long_mscale", factor));
  return absl::OkStatus();
}

absl::Status ParseLlama3(const ConfigReader& object, RopeConfig& rope) {
  MOESCOPE_ASSIGN_OR_RETURN(
      rope.original_positions,
      object.Integer("original_max_position_embeddings", kPositionRange));
  MOESCOPE_ASSIGN_OR_RETURN(rope.factor, object.PositiveReal("factor"));
  MOESCOPE_ASSIGN_OR_RETURN(rope.low_frequency_factor,
                            object.PositiveReal("low_freq_factor"));
  MOESCOPE_ASSIGN_OR_RETURN(rope.high_frequency_factor,
                            object.PositiveReal("high_freq_factor"));
  // Equal ones, as Llama 4 Scout has them, make a step of the ramp.
  if (rope.high_frequency_factor < rope.low_frequency_factor) {
    return absl::DataLossError(
        absl::StrCat("high_freq_factor: is ", rope.high_frequency_factor,
                     ", must be at least low_freq_factor ",
                     rope.low_frequency_factor));
  }
  return absl::OkStatus();
}

// Under either key; both must agree: transformers 4 takes the one or the other
// by the model's class.
absl::StatusOr<std::string> ParseKind(const ConfigReader& object,
                                      absl::string_view where) {
  MOESCOPE_ASSIGN_OR_RETURN(std::string older,
                            object.StringOr(kOldKindKey, "default"));
  MOESCOPE_ASSIGN_OR_RETURN(std::string newer,
                            object.StringOr(kKindKey, older));
  // Phi-3's first name for it.
  for (std::string* kind : {&older, &newer}) {
    if (*kind == "su") *kind = "longrope";
  }
  if (object.Has(kOldKindKey) && older != newer) {
    return absl::DataLossError(absl::StrCat(
        where, ".", kOldKindKey, ": is ", QuoteName(older), ", but ", where,
        ".", kKindKey, " is ", QuoteName(newer), "; they must agree"));
  }
  return newer;
}

// `object` stands under the key `where`.
absl::Status ParseScaling(const ConfigReader& json, const ConfigReader& object,
                          absl::string_view where, const RopeBase& base,
                          RopeConfig& rope) {
  const char* key = object.FirstPresent({kKindKey, kOldKindKey});
  MOESCOPE_ASSIGN_OR_RETURN(rope.kind, ParseKind(object, where));
  const char* factor =
      object.FirstPresent({"factor", "short_factor", "long_factor"});
  if (!object.Has(key) && object.Has(factor)) {
    // transformers 4 fails here, 5 does not scale: nobody can mean that.
    return absl::DataLossError(absl::StrCat(
        where, ".", key, ": missing beside ", factor));
  }
  if (rope.kind == "default") return absl::OkStatus();
  if (rope.kind == "linear" || rope.kind == "dynamic") {
    rope.original_positions = base.max_positions;
    MOESCOPE_ASSIGN_OR_RETURN(rope.factor, object.PositiveReal("factor"));
    return absl::OkStatus();
  }
  if (rope.kind == "yarn") return ParseYarn(object, base, rope);
  if (rope.kind == "longrope") return ParseLongrope(json, object, base, rope);
  if (rope.kind == "llama3") return ParseLlama3(object, rope);
  return object.NotSupported(
      key, QuoteName(rope.kind),
      "default, linear, dynamic, yarn, longrope, llama3 are");
}

// From the one place or the other; both must agree.
absl::StatusOr<double> ParseTheta(const ConfigReader& json,
                                  const ConfigReader* object, double fallback) {
  MOESCOPE_ASSIGN_OR_RETURN(const double theta,
                            json.PositiveRealOr("rope_theta", fallback));
  if (object == nullptr || !object->Has("rope_theta")) return theta;
  MOESCOPE_ASSIGN_OR_RETURN(const double newer,
                            object->PositiveReal("rope_theta"));
  if (json.Has("rope_theta") && newer != theta) {
    return Disagree(json, "rope_theta", theta, newer);
  }
  return newer;
}

absl::StatusOr<std::int64_t> ParseRotatedWidth(const ConfigReader& json,
                                               const ConfigReader* object,
                                               std::int64_t head_dim) {
  constexpr const char* kKey = "partial_rotary_factor";
  const ConfigReader& holder =
      object != nullptr && object->Has(kKey) ? *object : json;
  if (!holder.Has(kKey) && head_dim % 2 != 0) {
    return absl::DataLossError(
        absl::StrCat("head_dim: is ", head_dim, ", must be even"));
  }
  MOESCOPE_ASSIGN_OR_RETURN(const double fraction,
                            holder.PositiveRealOr(kKey, 1));
  MOESCOPE_ASSIGN_OR_RETURN(const double outer,
                            json.PositiveRealOr(kKey, fraction));
  if (outer != fraction) return Disagree(json, kKey, outer, fraction);
  const double width = static_cast<double>(head_dim) * fraction;
  const auto rotated = static_cast<std::int64_t>(
      std::min(width, static_cast<double>(head_dim) + 1));
  if (rotated < 2 || rotated > head_dim || rotated % 2 != 0) {
    return absl::DataLossError(absl::StrCat(
        kKey, ": is ", fraction, ", which rotates ", width, " of a head's ",
        head_dim, " coordinates; must be an even number of them"));
  }
  return rotated;
}

// Whether both objects scale alike. What only one kind of scaling has is the
// same in both where the kind is not that one.
absl::Status CheckSame(const ConfigReader& newer, const ConfigReader& older,
                       const RopeConfig& a, const RopeConfig& b) {
  constexpr const char* kScoreKey = "mscale_all_dim";
  MOESCOPE_ASSIGN_OR_RETURN(const double newer_score,
                            newer.NonNegativeRealOr(kScoreKey, 0));
  MOESCOPE_ASSIGN_OR_RETURN(const double older_score,
                            older.NonNegativeRealOr(kScoreKey, 0));
  const bool same =
      a.kind == b.kind && a.factor == b.factor &&
      a.original_positions == b.original_positions &&
      a.beta_fast == b.beta_fast && a.beta_slow == b.beta_slow &&
      a.truncate == b.truncate &&
      a.low_frequency_factor == b.low_frequency_factor &&
      a.high_frequency_factor == b.high_frequency_factor &&
      a.short_factors == b.short_factors && a.long_factors == b.long_factors &&
      a.attention_factor == b.attention_factor &&
      a.long_attention_factor == b.long_attention_factor &&
      newer_score == older_score;
  if (same) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      kNewKey, ": says ", QuoteName(a.kind), " by factor ", a.factor, ", but ",
      kOldKey, " says ", QuoteName(b.kind), " by factor ", b.factor,
      "; they must agree"));
}

}  // namespace

double YarnMagnitude(double factor, double m) {
  return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1.0;
}

absl::StatusOr<std::optional<ConfigReader>> RopeObject(
    const ConfigReader& json) {
  return json.Object(json.FirstPresent({kNewKey, kOldKey}));
}

absl::StatusOr<RopeConfig> ParseRope(const ConfigReader& json,
                                     const RopeBase& base) {
  RopeConfig rope;
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> object,
                            RopeObject(json));
  const ConfigReader* scaling = object ? &*object : nullptr;
  MOESCOPE_ASSIGN_OR_RETURN(rope.theta,
                            ParseTheta(json, scaling, base.theta));
  MOESCOPE_ASSIGN_OR_RETURN(rope.dim,
                            ParseRotatedWidth(json, scaling, base.head_dim));
  if (scaling == nullptr) return rope;
  if (const std::string key = scaling->KeyOfObject(); !key.empty()) {
    return absl::UnimplementedError(absl::StrCat(
        ObjectKey(json), ".", QuoteName(key),
        ": positions that differ by kind of layer are not supported"));
  }
  MOESCOPE_RETURN_IF_ERROR(
      ParseScaling(json, *scaling, ObjectKey(json), base, rope));
  MOESCOPE_ASSIGN_OR_RETURN(const std::optional<ConfigReader> older,
                            json.Object(kOldKey));
  if (!json.Has(kNewKey) || !older.has_value() || older->empty()) return rope;
  RopeConfig other = rope;
  MOESCOPE_RETURN_IF_ERROR(ParseScaling(json, *older, kOldKey, base, other));
  MOESCOPE_RETURN_IF_ERROR(CheckSame(*scaling, *older, rope, other));
  return rope;
}

}  // namespace moescope::model::internal
