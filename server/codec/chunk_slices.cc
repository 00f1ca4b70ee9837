#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/codec/dtype_message_internal.h"

#include "moescope/base/status_macros.h"
#include "moescope/codec/messages.h"

namespace moescope::codec {
namespace {

// The message around a slice, its chunk number and flags.
constexpr std::int64_t kEnvelopeBytes = 64;
// Below this an array waits for the next slice rather than begin.
constexpr std::int64_t kSmallestPiece = 1024;

// An upper bound of an ArraySlice's size without its data: name, lengths of
// ten bytes each, and the other fields with their tags.
std::int64_t HeaderBytes(const spec::Array& array) {
  return static_cast<std::int64_t>(array.name.size()) +
         10 * static_cast<std::int64_t>(array.shape.size()) + 48;
}

// Bytes that dtype and shape ask for; -1 when no array can have them.
std::int64_t ExpectedBytes(const spec::Array& array) {
  std::int64_t bytes = spec::DTypeSize(array.dtype);
  bool empty = false;
  for (const std::int64_t length : array.shape) {
    if (length < 0) {
      return -1;
    }
    empty = empty || length == 0;
  }
  for (const std::int64_t length : array.shape) {
    if (!empty && __builtin_mul_overflow(bytes, length, &bytes)) {
      return -1;
    }
  }
  return empty ? 0 : bytes;
}

bool IsComplete(const spec::Array& array) {
  return static_cast<std::int64_t>(array.bytes.size()) == ExpectedBytes(array);
}

absl::Status Incomplete(const spec::Array& array) {
  return absl::DataLossError(
      absl::StrCat("array \"", array.name, "\": ", array.bytes.size(), " of ",
                   ExpectedBytes(array), " bytes have come"));
}

}  // namespace

absl::Status ForEachSlice(
    const spec::Chunk& chunk, std::int64_t number, std::int64_t max_bytes,
    const std::function<absl::Status(const v1::ResultSlice&)>& send) {
  const std::int64_t budget = max_bytes - kEnvelopeBytes;
  v1::ResultSlice slice;
  slice.set_chunk(number);
  std::int64_t used = 0;
  for (const spec::Array& array : chunk.arrays) {
    const auto size = static_cast<std::int64_t>(array.bytes.size());
    std::int64_t offset = 0;
    do {
      const std::int64_t left = size - offset;
      if (slice.arrays_size() > 0 &&
          budget - used - HeaderBytes(array) < std::min(left, kSmallestPiece)) {
        MOESCOPE_RETURN_IF_ERROR(send(slice));
        slice.clear_arrays();
        used = 0;
      }
      const std::int64_t room = budget - used - HeaderBytes(array);
      const std::int64_t take = std::min(left, std::max<std::int64_t>(room, 1));
      v1::ArraySlice& piece = *slice.add_arrays();
      piece.set_name(array.name);
      piece.set_dtype(internal::DTypeToMessage(array.dtype));
      piece.mutable_shape()->Assign(array.shape.begin(), array.shape.end());
      piece.set_offset(offset);
      piece.set_data(array.bytes.data() + offset,
                     static_cast<std::size_t>(take));
      used += HeaderBytes(array) + take;
      offset += take;
    } while (offset < size);
  }
  slice.set_last_of_chunk(true);
  return send(slice);
}

absl::Status ChunkAssembler::AddArray(v1::ArraySlice& slice) {
  if (slice.offset() == 0) {
    if (!chunk_.arrays.empty() && !IsComplete(chunk_.arrays.back())) {
      return Incomplete(chunk_.arrays.back());
    }
    spec::Array array;
    array.name = slice.name();
    MOESCOPE_ASSIGN_OR_RETURN(array.dtype,
                              internal::DTypeFromMessage(slice.dtype()));
    array.shape.assign(slice.shape().begin(), slice.shape().end());
    array.bytes = std::move(*slice.mutable_data());
    chunk_.arrays.push_back(std::move(array));
  } else {
    if (chunk_.arrays.empty() || chunk_.arrays.back().name != slice.name() ||
        static_cast<std::int64_t>(chunk_.arrays.back().bytes.size()) !=
            slice.offset()) {
      return absl::DataLossError(
          absl::StrCat("array \"", slice.name(), "\": a slice begins at ",
                       slice.offset(), " without the bytes before it"));
    }
    chunk_.arrays.back().bytes += slice.data();
  }
  const spec::Array& array = chunk_.arrays.back();
  if (static_cast<std::int64_t>(array.bytes.size()) > ExpectedBytes(array)) {
    return Incomplete(array);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<spec::Chunk>> ChunkAssembler::Add(
    v1::ResultSlice slice) {
  if (slice.chunk() != next_) {
    return absl::DataLossError(absl::StrCat("a slice of chunk ", slice.chunk(),
                                            " came, expected was ", next_));
  }
  for (v1::ArraySlice& array : *slice.mutable_arrays()) {
    MOESCOPE_RETURN_IF_ERROR(AddArray(array));
  }
  if (!slice.last_of_chunk()) {
    return std::optional<spec::Chunk>();
  }
  if (!chunk_.arrays.empty() && !IsComplete(chunk_.arrays.back())) {
    return Incomplete(chunk_.arrays.back());
  }
  ++next_;
  return std::optional<spec::Chunk>(std::exchange(chunk_, {}));
}

void ChunkAssembler::Restart() { chunk_ = {}; }

}  // namespace moescope::codec
