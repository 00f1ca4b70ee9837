#include "server/numerics/activation_state_internal.h"

#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "moescope/base/sha256.h"

namespace moescope::numerics {
namespace {

// Changes with the layout; bytes of another layout are refused.
constexpr char kMagic[] = "moescope-activations-1\n";
constexpr std::size_t kMagicSize = sizeof kMagic - 1;
constexpr std::size_t kDigestSize = 64;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the bytes are written as they lie in memory");

template <typename T>
void Append(const std::vector<T>& array, std::string& bytes) {
  const auto count = static_cast<std::uint64_t>(array.size());
  bytes.append(reinterpret_cast<const char*>(&count), sizeof count);
  bytes.append(reinterpret_cast<const char*>(array.data()),
               array.size() * sizeof(T));
}

// What the bytes must begin with to belong to `options`.
std::string Header(const ActivationOptions& options) {
  std::string bytes;
  Append(std::vector<std::int64_t>{options.num_experts, options.num_neurons,
                                   options.top_tokens},
         bytes);
  Append(options.thresholds, bytes);
  Append(options.histogram_edges, bytes);
  return bytes;
}

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("activation state: ", what));
}

}  // namespace

ActivationAccumulator::State::State(ActivationOptions given)
    : options(std::move(given)) {
  const auto experts = static_cast<std::size_t>(options.num_experts);
  const auto neurons =
      experts * static_cast<std::size_t>(options.num_neurons);
  const std::size_t kept =
      neurons * static_cast<std::size_t>(options.top_tokens);
  for (std::vector<double>& plane : planes) {
    plane.assign(neurons, 0.0);
  }
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  planes[internal::kMax].assign(neurons, -kInfinity);
  planes[internal::kRouted + internal::kMax].assign(neurons, -kInfinity);
  for (auto* per_expert :
       {&tokens, &routed_tokens, &near_threshold, &nonfinite}) {
    per_expert->assign(experts, 0);
  }
  over.assign(experts * options.thresholds.size(), 0);
  over_routed.assign(experts * options.thresholds.size(), 0);
  histogram.assign(experts * static_cast<std::size_t>(bins()), 0);
  top_values.assign(kept, -std::numeric_limits<float>::infinity());
  top_tokens.assign(kept, -1);
}

std::string ActivationAccumulator::State::Serialize() const {
  std::string payload = Header(options);
  ForEachArray(*this, [&](const auto& array) { Append(array, payload); });
  return absl::StrCat(absl::string_view(kMagic, kMagicSize),
                      Sha256Hex(payload), payload);
}

absl::Status ActivationAccumulator::State::Load(absl::string_view bytes) {
  if (bytes.size() < kMagicSize + kDigestSize ||
      bytes.substr(0, kMagicSize) != absl::string_view(kMagic, kMagicSize)) {
    return Damaged("is not one, or of another version");
  }
  const absl::string_view digest = bytes.substr(kMagicSize, kDigestSize);
  absl::string_view payload = bytes.substr(kMagicSize + kDigestSize);
  if (Sha256Hex(payload) != digest) {
    return Damaged("its bytes do not fit their checksum");
  }
  const std::string header = Header(options);
  if (payload.substr(0, header.size()) != header) {
    return Damaged("was made with other options");
  }
  payload.remove_prefix(header.size());
  bool fits = true;
  ForEachArray(*this, [&](auto& array) {
    using Element = typename std::remove_reference_t<decltype(array)>::value_type;
    const std::size_t size = array.size() * sizeof(Element);
    std::uint64_t count = 0;
    if (!fits || payload.size() < sizeof count + size) {
      fits = false;
      return;
    }
    std::memcpy(&count, payload.data(), sizeof count);
    fits = count == array.size();
    if (size > 0) {
      std::memcpy(array.data(), payload.data() + sizeof count, size);
    }
    payload.remove_prefix(sizeof count + size);
  });
  return fits && payload.empty()
             ? absl::OkStatus()
             : Damaged("its arrays do not fit its options");
}

}  // namespace moescope::numerics
