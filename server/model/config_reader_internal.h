#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace moescope::model::internal {

/// Both ends belong to it.
struct IntegerRange {
  std::int64_t min = 0;
  std::int64_t max = 0;
};

/// Typed, range-checked reading of a config.json object. A key whose value is
/// null counts as absent. Errors: DATA_LOSS naming the key, what was found and
/// what is allowed. Threads: as a const reference to the object, which must
/// outlive it.
class ConfigReader {
 public:
  /// `path` stands before key names in messages ("rope_parameters.").
  explicit ConfigReader(const nlohmann::json& object, std::string path = "");

  bool Has(absl::string_view key) const { return Find(key) != nullptr; }
  /// Whether the object has no keys at all.
  bool empty() const { return object_->empty(); }
  /// The first key, by name, with an object for its value; empty without one.
  std::string KeyOfObject() const;
  /// Whether `key` stands there, be it with null.
  bool Mentions(absl::string_view key) const;
  /// The first of `keys` that is there, else the first; for keys that were
  /// renamed.
  const char* FirstPresent(std::initializer_list<const char*> keys) const;

  absl::StatusOr<std::int64_t> Integer(absl::string_view key,
                                       IntegerRange range) const;
  /// For keys that were renamed: the value of all of `keys` that are there;
  /// nullopt without any. DATA_LOSS naming two that disagree, too: readers of
  /// config.json differ in which of them they take.
  absl::StatusOr<std::optional<std::int64_t>> OptionalAgreedInteger(
      std::initializer_list<const char*> keys, IntegerRange range) const;
  /// Likewise; DATA_LOSS naming the first without any.
  absl::StatusOr<std::int64_t> AgreedInteger(
      std::initializer_list<const char*> keys, IntegerRange range) const;
  absl::StatusOr<std::int64_t> IntegerOr(absl::string_view key,
                                         std::int64_t fallback,
                                         IntegerRange range) const;
  absl::StatusOr<std::optional<std::int64_t>> OptionalInteger(
      absl::string_view key, IntegerRange range) const;
  /// Above 0 and within fp32, as other reals below.
  absl::StatusOr<double> PositiveReal(absl::string_view key) const;
  absl::StatusOr<double> PositiveRealOr(absl::string_view key,
                                        double fallback) const;
  /// At least 0.
  absl::StatusOr<double> NonNegativeRealOr(absl::string_view key,
                                           double fallback) const;
  /// Each above 0.
  absl::StatusOr<std::vector<double>> PositiveReals(
      absl::string_view key) const;
  /// Empty when absent.
  absl::StatusOr<std::vector<std::int64_t>> Integers(absl::string_view key,
                                                     IntegerRange range) const;
  /// Empty when absent.
  absl::StatusOr<std::vector<std::string>> Strings(absl::string_view key) const;
  absl::StatusOr<bool> BoolOr(absl::string_view key, bool fallback) const;
  /// true, false, or a number, which is true unless 0.
  absl::StatusOr<bool> TruthOr(absl::string_view key, bool fallback) const;
  absl::StatusOr<std::string> String(absl::string_view key) const;
  absl::StatusOr<std::string> StringOr(absl::string_view key,
                                       absl::string_view fallback) const;
  /// nullopt when absent.
  absl::StatusOr<std::optional<std::array<std::int64_t, 2>>>
  OptionalIntegerPair(absl::string_view key, IntegerRange range) const;
  /// nullopt when absent.
  absl::StatusOr<std::optional<ConfigReader>> Object(
      absl::string_view key) const;

  /// OK where `key` is absent or says one of `supported`; else UNIMPLEMENTED
  /// with both.
  absl::Status RequireString(
      absl::string_view key,
      std::initializer_list<absl::string_view> supported) const;
  absl::Status RequireBool(absl::string_view key, bool supported) const;
  /// UNIMPLEMENTED: "key: value is not supported (supported)"; `supported`
  /// has its verb ("silu is").
  absl::Status NotSupported(absl::string_view key, absl::string_view value,
                            absl::string_view supported) const;

 private:
  const nlohmann::json* Find(absl::string_view key) const;
  absl::Status Missing(absl::string_view key) const;
  absl::StatusOr<double> Real(absl::string_view key, bool zero_allowed) const;
  absl::Status Wrong(absl::string_view key, const nlohmann::json& found,
                     absl::string_view allowed) const;

  const nlohmann::json* object_;
  std::string path_;
};

}  // namespace moescope::model::internal
