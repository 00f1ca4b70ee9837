#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "server/analysis/activation_state_internal.h"

#include "moescope/base/sha256.h"
#include "moescope/base/status_macros.h"

namespace moescope::analysis::internal {
namespace {

constexpr absl::string_view kMagic = "moescope.activation_state.1\n";
constexpr std::size_t kIntegerBytes = 8;

void PutInteger(std::int64_t value, std::string& out) {
  const auto bits = static_cast<std::uint64_t>(value);
  for (std::size_t i = 0; i < kIntegerBytes; ++i) {
    out.push_back(static_cast<char>((bits >> (8 * i)) & 0xFF));
  }
}

absl::Status Damaged(absl::string_view cause) {
  return absl::DataLossError(
      absl::StrCat("saved state of activation_statistics: ", cause));
}

absl::StatusOr<std::int64_t> TakeInteger(absl::string_view& bytes) {
  if (bytes.size() < kIntegerBytes) {
    return Damaged("cut short");
  }
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < kIntegerBytes; ++i) {
    bits |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i]))
            << (8 * i);
  }
  bytes.remove_prefix(kIntegerBytes);
  return static_cast<std::int64_t>(bits);
}

// What blocks and layers mean; the accumulators know their own options.
std::string Owner(const spec::ActivationStatisticsSpec& spec) {
  return Sha256Hex(
      absl::StrCat(spec.kVersion, ";", spec::TokensDigest(spec.input), ";",
                   absl::StrJoin(spec.layers, ","), ";", spec.block_tokens));
}

}  // namespace

absl::StatusOr<ActivationState> NewActivationState(
    const spec::ActivationStatisticsSpec& spec,
    const numerics::ActivationOptions& options) {
  ActivationState state;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    MOESCOPE_ASSIGN_OR_RETURN(
        std::unique_ptr<numerics::ActivationAccumulator> layer,
        numerics::ActivationAccumulator::Create(options));
    state.layers.push_back(std::move(layer));
  }
  return state;
}

std::string EncodeActivationState(const spec::ActivationStatisticsSpec& spec,
                                  const ActivationState& state) {
  std::string out = absl::StrCat(kMagic, Owner(spec));
  PutInteger(state.blocks_done, out);
  for (const auto& layer : state.layers) {
    const std::string bytes = layer->Serialize();
    PutInteger(static_cast<std::int64_t>(bytes.size()), out);
    out += bytes;
  }
  return out;
}

absl::StatusOr<ActivationState> DecodeActivationState(
    const spec::ActivationStatisticsSpec& spec,
    const numerics::ActivationOptions& options, absl::string_view bytes) {
  if (!absl::ConsumePrefix(&bytes, kMagic)) {
    return Damaged("of another version, or no state at all");
  }
  if (!absl::ConsumePrefix(&bytes, Owner(spec))) {
    return Damaged("belongs to another question");
  }
  ActivationState state;
  MOESCOPE_ASSIGN_OR_RETURN(state.blocks_done, TakeInteger(bytes));
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    MOESCOPE_ASSIGN_OR_RETURN(const std::int64_t size, TakeInteger(bytes));
    if (size < 0 || static_cast<std::uint64_t>(size) > bytes.size()) {
      return Damaged("cut short");
    }
    const auto length = static_cast<std::size_t>(size);
    MOESCOPE_ASSIGN_OR_RETURN(
        std::unique_ptr<numerics::ActivationAccumulator> layer,
        numerics::ActivationAccumulator::Deserialize(options,
                                                     bytes.substr(0, length)));
    state.layers.push_back(std::move(layer));
    bytes.remove_prefix(length);
  }
  if (!bytes.empty()) {
    return Damaged("has bytes after its end");
  }
  return state;
}

}  // namespace moescope::analysis::internal
