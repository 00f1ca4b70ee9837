#include "server/model/safetensors_header_internal.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <tuple>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {
namespace {

using nlohmann::json;

// The format sets no limit; real tensors have at most five.
constexpr std::size_t kMaxRank = 16;
constexpr const char* kMetadataKey = "__metadata__";

constexpr std::array<TensorDtype, 15> kDtypes = {
    TensorDtype::kBool,   TensorDtype::kU8,  TensorDtype::kI8,
    TensorDtype::kF8E4M3, TensorDtype::kF8E5M2, TensorDtype::kI16,
    TensorDtype::kU16,    TensorDtype::kF16, TensorDtype::kBF16,
    TensorDtype::kI32,    TensorDtype::kU32, TensorDtype::kF32,
    TensorDtype::kI64,    TensorDtype::kU64, TensorDtype::kF64};

absl::StatusOr<TensorDtype> DtypeFromName(const std::string& name) {
  for (const TensorDtype dtype : kDtypes) {
    if (name == DtypeName(dtype)) return dtype;
  }
  if (name == "F4" || name == "F6_E2M3" || name == "F6_E3M2" ||
      name == "F8_E8M0" || name == "C64") {
    return absl::UnimplementedError(
        absl::StrCat("dtype ", name, " is not supported"));
  }
  return absl::DataLossError(absl::StrCat("unknown dtype ", QuoteName(name)));
}

std::string Offsets(const HeaderTensor& tensor) {
  return absl::StrCat("data_offsets [", tensor.begin, ", ", tensor.end, "]");
}

// Follows the one form a header may have; anything else ends the parse with an
// error, so nesting is bounded and no tree is built.
class HeaderHandler final : public json::json_sax_t {
 public:
  explicit HeaderHandler(std::int64_t data_bytes) : data_bytes_(data_bytes) {}

  bool null() override { return Unexpected("null"); }
  bool boolean(bool /*value*/) override { return Unexpected("a boolean"); }
  bool number_integer(number_integer_t /*value*/) override {
    return Unexpected("a negative number");
  }
  bool number_float(number_float_t /*value*/,
                    const string_t& /*text*/) override {
    return Unexpected("a number that is no 64-bit integer");
  }
  bool binary(binary_t& /*value*/) override { return Unexpected("bytes"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ != State::kShape && state_ != State::kOffsets) {
      return Unexpected("a number");
    }
    if (value > static_cast<number_unsigned_t>(INT64_MAX)) {
      return FailTensor(absl::StrCat(FieldName(), " holds ", value,
                                     ", which is beyond 2^63 - 1"));
    }
    numbers_.push_back(static_cast<std::int64_t>(value));
    if (numbers_.size() > kMaxRank) {
      return FailTensor(absl::StrCat(FieldName(), " has more than ", kMaxRank,
                                     " numbers"));
    }
    return true;
  }

  bool string(string_t& value) override {
    if (state_ == State::kDtype) {
      absl::StatusOr<TensorDtype> dtype = DtypeFromName(value);
      if (!dtype.ok()) return FailTensor(dtype.status());
      tensor_.dtype = *dtype;
      has_dtype_ = true;
      state_ = State::kTensor;
      return true;
    }
    if (state_ == State::kMetadataValue) {
      header_.metadata[key_] = value;
      state_ = State::kMetadata;
      return true;
    }
    return Unexpected("a string");
  }

  bool start_object(std::size_t /*elements*/) override {
    if (state_ == State::kStart) {
      state_ = State::kTop;
      return true;
    }
    if (state_ != State::kTopValue) return Unexpected("an object");
    if (name_ == kMetadataKey) {
      state_ = State::kMetadata;
      return true;
    }
    state_ = State::kTensor;
    tensor_ = HeaderTensor();
    has_dtype_ = has_shape_ = has_offsets_ = false;
    return true;
  }

  bool key(string_t& value) override {
    switch (state_) {
      case State::kTop:
        return TopKey(value);
      case State::kMetadata:
        if (header_.metadata.count(value) != 0) {
          return Fail(absl::StrCat(kMetadataKey, " holds key ",
                                   QuoteName(value), " twice"));
        }
        key_ = value;
        state_ = State::kMetadataValue;
        return true;
      default:
        return TensorKey(value);
    }
  }

  bool end_object() override {
    if (state_ == State::kTop) {
      state_ = State::kEnd;
      return true;
    }
    if (state_ == State::kTensor && !FinishTensor()) return false;
    state_ = State::kTop;
    return true;
  }

  bool start_array(std::size_t /*elements*/) override {
    if (state_ != State::kShapeValue && state_ != State::kOffsetsValue) {
      return Unexpected("an array");
    }
    state_ = state_ == State::kShapeValue ? State::kShape : State::kOffsets;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    if (state_ == State::kShape) {
      tensor_.shape = numbers_;
      has_shape_ = true;
    } else {
      if (numbers_.size() != 2) {
        return FailTensor(absl::StrCat("data_offsets has ", numbers_.size(),
                                       " numbers, not 2"));
      }
      tensor_.begin = numbers_[0];
      tensor_.end = numbers_[1];
      has_offsets_ = true;
    }
    state_ = State::kTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    return Fail(absl::StrCat("header is not valid JSON near byte ", position));
  }

  absl::StatusOr<SafetensorsHeader> Take() && {
    MOESCOPE_RETURN_IF_ERROR(status_);
    return std::move(header_);
  }

 private:
  enum class State {
    kStart, kTop, kTopValue, kMetadata, kMetadataValue, kTensor, kDtype,
    kShapeValue, kShape, kOffsetsValue, kOffsets, kEnd
  };

  bool TopKey(const std::string& value) {
    if (header_.tensors.count(value) != 0 ||
        (value == kMetadataKey && has_metadata_)) {
      return Fail(absl::StrCat("duplicate tensor name ", QuoteName(value)));
    }
    has_metadata_ = has_metadata_ || value == kMetadataKey;
    name_ = value;
    state_ = State::kTopValue;
    return true;
  }

  bool TensorKey(const std::string& value) {
    bool* seen = nullptr;
    if (value == "dtype") {
      seen = &has_dtype_;
      state_ = State::kDtype;
    } else if (value == "shape") {
      seen = &has_shape_;
      state_ = State::kShapeValue;
    } else if (value == "data_offsets") {
      seen = &has_offsets_;
      state_ = State::kOffsetsValue;
    } else {
      return FailTensor(absl::StrCat("unknown key ", QuoteName(value)));
    }
    if (*seen) return FailTensor(absl::StrCat("key ", value, " stands twice"));
    return true;
  }

  bool FinishTensor() {
    if (!has_dtype_) return FailTensor("dtype is missing");
    if (!has_shape_) return FailTensor("shape is missing");
    if (!has_offsets_) return FailTensor("data_offsets is missing");
    if (tensor_.begin > tensor_.end) {
      return FailTensor(absl::StrCat(Offsets(tensor_), " end before they begin"));
    }
    if (tensor_.end > data_bytes_) {
      return FailTensor(absl::StrCat(Offsets(tensor_), " lie beyond the file's ",
                                     data_bytes_, " data bytes"));
    }
    std::int64_t bytes = DtypeSize(tensor_.dtype);
    for (const std::int64_t extent : tensor_.shape) {
      if (__builtin_mul_overflow(bytes, extent, &bytes)) {
        return FailTensor(absl::StrCat("shape [",
                                       absl::StrJoin(tensor_.shape, ", "),
                                       "] has more than 2^63 - 1 bytes"));
      }
    }
    if (bytes != tensor_.end - tensor_.begin) {
      return FailTensor(absl::StrCat(
          "shape [", absl::StrJoin(tensor_.shape, ", "), "] of ",
          DtypeName(tensor_.dtype), " has ", bytes, " bytes, but ",
          Offsets(tensor_), " hold ", tensor_.end - tensor_.begin));
    }
    header_.tensors[name_] = std::move(tensor_);
    return true;
  }

  const char* FieldName() const {
    return state_ == State::kShape ? "shape" : "data_offsets";
  }

  bool Unexpected(absl::string_view found) {
    switch (state_) {
      case State::kStart:
      case State::kEnd:
        return Fail(absl::StrCat("header is ", found, ", not an object"));
      case State::kTopValue:
        return FailTensor(absl::StrCat("is ", found, ", not an object"));
      case State::kMetadataValue:
        return Fail(absl::StrCat(kMetadataKey, " key ", QuoteName(key_),
                                 " is ", found, ", not a string"));
      case State::kDtype:
        return FailTensor(absl::StrCat("dtype is ", found, ", not a string"));
      case State::kShapeValue:
        return FailTensor(absl::StrCat("shape is ", found, ", not an array"));
      case State::kOffsetsValue:
        return FailTensor(
            absl::StrCat("data_offsets is ", found, ", not an array"));
      default:
        return FailTensor(absl::StrCat(FieldName(), " holds ", found));
    }
  }

  bool FailTensor(absl::string_view cause) {
    return FailTensor(absl::DataLossError(cause));
  }
  bool FailTensor(const absl::Status& status) {
    status_ = absl::Status(status.code(),
                           absl::StrCat("tensor ", QuoteName(name_), ": ",
                                        status.message()));
    return false;
  }
  bool Fail(absl::string_view cause) {
    status_ = absl::DataLossError(cause);
    return false;
  }

  const std::int64_t data_bytes_;
  State state_ = State::kStart;
  SafetensorsHeader header_;
  absl::Status status_;
  bool has_metadata_ = false;
  std::string name_;  // of the tensor being read
  std::string key_;   // of the metadata entry being read
  HeaderTensor tensor_;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  std::vector<std::int64_t> numbers_;
};

// Every byte of data belongs to exactly one tensor.
absl::Status CheckCoverage(const std::map<std::string, HeaderTensor>& tensors,
                           std::int64_t data_bytes) {
  using Named = std::pair<const std::string, HeaderTensor>;
  std::vector<const Named*> order;
  order.reserve(tensors.size());
  for (const Named& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const Named* a, const Named* b) {
    return std::tie(a->second.begin, a->second.end, a->first) <
           std::tie(b->second.begin, b->second.end, b->first);
  });
  std::int64_t covered = 0;
  for (const Named* tensor : order) {
    if (tensor->second.begin < covered) {
      return absl::DataLossError(absl::StrCat(
          "tensor ", QuoteName(tensor->first), ": ", Offsets(tensor->second),
          " overlap another tensor, which ends at ", covered));
    }
    if (tensor->second.begin > covered) {
      return absl::DataLossError(absl::StrCat(
          "tensor ", QuoteName(tensor->first), ": ", Offsets(tensor->second),
          " leave a hole after offset ", covered));
    }
    covered = tensor->second.end;
  }
  if (covered != data_bytes) {
    return absl::DataLossError(
        absl::StrCat("the last tensor ends at offset ", covered, ", but the "
                     "file has ", data_bytes, " data bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    absl::string_view json_text, std::int64_t data_bytes) {
  if (json_text.empty() || json_text.front() != '{') {
    return absl::DataLossError("header does not begin with '{'");
  }
  // The JSON library takes NUL for the end of its input.
  const std::size_t nul = json_text.find('\0');
  if (nul != absl::string_view::npos) {
    return absl::DataLossError(
        absl::StrCat("header is not valid JSON near byte ", nul + 1));
  }
  HeaderHandler handler(data_bytes);
  json::sax_parse(json_text.begin(), json_text.end(), &handler);
  MOESCOPE_ASSIGN_OR_RETURN(SafetensorsHeader header,
                            std::move(handler).Take());
  MOESCOPE_RETURN_IF_ERROR(CheckCoverage(header.tensors, data_bytes));
  return header;
}

}  // namespace moescope::model::internal
