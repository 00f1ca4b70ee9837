#include "server/model/stored_zip_internal.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "moescope/base/status_macros.h"
#include "server/model/quote_name_internal.h"

namespace moescope::model::internal {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kCentralHeader = 0x02014b50;
constexpr std::uint32_t kEnd = 0x06054b50;
constexpr std::uint32_t kEnd64 = 0x06064b50;
constexpr std::uint32_t kEnd64Locator = 0x07064b50;
constexpr std::size_t kLocalBytes = 30;
constexpr std::size_t kCentralBytes = 46;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kLocatorBytes = 20;
constexpr std::size_t kMaxCommentBytes = 65535;
constexpr std::uint64_t kMax16 = 0xffff;
constexpr std::uint64_t kMax32 = 0xffffffff;

// Little-endian numbers at places that were checked to be inside.
std::uint64_t Number(absl::string_view bytes, std::size_t at,
                     std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  }
  return value;
}

bool Inside(std::uint64_t begin, std::uint64_t size, std::uint64_t end) {
  return begin <= end && size <= end - begin;
}

absl::Status Bad(absl::string_view cause) {
  return absl::DataLossError(absl::StrCat("zip: ", cause));
}

absl::Status BadEntry(absl::string_view name, absl::string_view cause) {
  return Bad(absl::StrCat("entry ", QuoteName(name), ": ", cause));
}

struct Directory {
  std::uint64_t entries = 0;
  std::uint64_t begin = 0;
  std::uint64_t size = 0;
};

struct Entry {
  std::string name;
  std::uint64_t header = 0;  // offset of the local header
  std::uint64_t size = 0;
};

struct Span {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  const std::string* name = nullptr;
};

class Reader {
 public:
  explicit Reader(absl::string_view bytes) : bytes_(bytes) {}

  absl::StatusOr<std::map<std::string, absl::string_view>> Read() {
    MOESCOPE_ASSIGN_OR_RETURN(const Directory directory, FindDirectory());
    MOESCOPE_ASSIGN_OR_RETURN(const std::vector<Entry> entries,
                              ReadDirectory(directory));
    std::map<std::string, absl::string_view> contents;
    std::vector<Span> spans;
    for (const Entry& entry : entries) {
      MOESCOPE_ASSIGN_OR_RETURN(const std::uint64_t begin,
                                DataBegin(entry, directory.begin));
      const bool is_new =
          contents
              .emplace(entry.name,
                       bytes_.substr(static_cast<std::size_t>(begin),
                                     static_cast<std::size_t>(entry.size)))
              .second;
      if (!is_new) return BadEntry(entry.name, "the name stands twice");
      spans.push_back({entry.header, begin + entry.size, &entry.name});
    }
    MOESCOPE_RETURN_IF_ERROR(CheckApart(spans));
    return contents;
  }

 private:
  absl::StatusOr<Directory> FindDirectory() const {
    if (bytes_.size() < kEndBytes) return Bad("too short");
    const std::size_t last = bytes_.size() - kEndBytes;
    const std::size_t first =
        last > kMaxCommentBytes ? last - kMaxCommentBytes : 0;
    for (std::size_t at = last + 1; at-- > first;) {
      if (Number(bytes_, at, 4) == kEnd &&
          Number(bytes_, at + 20, 2) == last - at) {
        return ReadEnd(at);
      }
    }
    return Bad("no end of central directory");
  }

  absl::StatusOr<Directory> ReadEnd(std::size_t at) const {
    Directory directory;
    directory.entries = Number(bytes_, at + 10, 2);
    directory.size = Number(bytes_, at + 12, 4);
    directory.begin = Number(bytes_, at + 16, 4);
    std::uint64_t end = at;
    const bool needs_64 = directory.entries == kMax16 ||
                          directory.size == kMax32 || directory.begin == kMax32;
    const bool has_64 = at >= kLocatorBytes &&
                        Number(bytes_, at - kLocatorBytes, 4) == kEnd64Locator;
    if (has_64) {
      end = Number(bytes_, at - kLocatorBytes + 8, 8);
      if (!Inside(end, kEnd64Bytes, at - kLocatorBytes) ||
          Number(bytes_, static_cast<std::size_t>(end), 4) != kEnd64) {
        return Bad(absl::StrCat("no zip64 end of central directory at offset ",
                                end));
      }
      const auto end64 = static_cast<std::size_t>(end);
      directory.entries = Number(bytes_, end64 + 32, 8);
      directory.size = Number(bytes_, end64 + 40, 8);
      directory.begin = Number(bytes_, end64 + 48, 8);
    } else if (needs_64) {
      return Bad("its zip64 end of central directory is missing");
    }
    if (!Inside(directory.begin, directory.size, end)) {
      return Bad(absl::StrCat("central directory of ", directory.size,
                              " bytes at offset ", directory.begin,
                              " reaches beyond offset ", end));
    }
    if (directory.entries > directory.size / kCentralBytes) {
      return Bad(absl::StrCat("central directory of ", directory.size,
                              " bytes cannot hold ", directory.entries,
                              " entries"));
    }
    return directory;
  }

  absl::StatusOr<std::vector<Entry>> ReadDirectory(
      const Directory& directory) const {
    const absl::string_view records =
        bytes_.substr(static_cast<std::size_t>(directory.begin),
                      static_cast<std::size_t>(directory.size));
    std::vector<Entry> entries;
    std::size_t at = 0;
    for (std::uint64_t i = 0; i < directory.entries; ++i) {
      if (!Inside(at, kCentralBytes, records.size()) ||
          Number(records, at, 4) != kCentralHeader) {
        return Bad(absl::StrCat("no central header at offset ",
                                directory.begin + at));
      }
      const auto name_bytes =
          static_cast<std::size_t>(Number(records, at + 28, 2));
      const auto extra_bytes =
          static_cast<std::size_t>(Number(records, at + 30, 2));
      const auto comment_bytes =
          static_cast<std::size_t>(Number(records, at + 32, 2));
      const std::size_t record_bytes =
          kCentralBytes + name_bytes + extra_bytes + comment_bytes;
      if (!Inside(at, record_bytes, records.size())) {
        return Bad(absl::StrCat("central header at offset ",
                                directory.begin + at,
                                " reaches beyond its directory"));
      }
      MOESCOPE_ASSIGN_OR_RETURN(
          Entry entry, ReadCentral(records.substr(at, record_bytes), name_bytes,
                                   extra_bytes));
      entries.push_back(std::move(entry));
      at += record_bytes;
    }
    return entries;
  }

  static absl::StatusOr<Entry> ReadCentral(absl::string_view record,
                                           std::size_t name_bytes,
                                           std::size_t extra_bytes) {
    Entry entry;
    entry.name = std::string(record.substr(kCentralBytes, name_bytes));
    if ((Number(record, 8, 2) & 1) != 0) {
      return BadEntry(entry.name, "is encrypted");
    }
    if (Number(record, 10, 2) != 0) {
      return BadEntry(entry.name, "is compressed, must be stored");
    }
    std::uint64_t packed = Number(record, 20, 4);
    entry.size = Number(record, 24, 4);
    entry.header = Number(record, 42, 4);
    std::uint64_t* const fields[] = {&entry.size, &packed, &entry.header};
    const absl::string_view extra =
        record.substr(kCentralBytes + name_bytes, extra_bytes);
    if (!Widen(extra, fields)) {
      return BadEntry(entry.name, "its zip64 sizes are missing");
    }
    if (packed != entry.size) {
      return BadEntry(entry.name,
                      absl::StrCat("has ", packed, " bytes stored, but ",
                                   entry.size, " bytes of content"));
    }
    return entry;
  }

  // Fills fields of 0xffffffff from the zip64 extra field.
  static bool Widen(absl::string_view extra, std::uint64_t* const (&fields)[3]) {
    constexpr std::uint64_t kZip64 = 1;
    absl::string_view wide;
    std::size_t at = 0;
    while (Inside(at, 4, extra.size())) {
      const auto size = static_cast<std::size_t>(Number(extra, at + 2, 2));
      if (!Inside(at + 4, size, extra.size())) break;
      if (Number(extra, at, 2) == kZip64) wide = extra.substr(at + 4, size);
      at += 4 + size;
    }
    for (std::uint64_t* field : fields) {
      if (*field != kMax32) continue;
      if (wide.size() < 8) return false;
      *field = Number(wide, 0, 8);
      wide.remove_prefix(8);
    }
    return true;
  }

  // Where the content begins; all of it lies before `limit`.
  absl::StatusOr<std::uint64_t> DataBegin(const Entry& entry,
                                          std::uint64_t limit) const {
    if (!Inside(entry.header, kLocalBytes, limit)) {
      return BadEntry(entry.name,
                      absl::StrCat("its header at offset ", entry.header,
                                   " lies outside the data"));
    }
    const auto at = static_cast<std::size_t>(entry.header);
    const std::uint64_t name_bytes = Number(bytes_, at + 26, 2);
    const std::uint64_t extra_bytes = Number(bytes_, at + 28, 2);
    const std::uint64_t begin =
        entry.header + kLocalBytes + name_bytes + extra_bytes;
    if (Number(bytes_, at, 4) != kLocalHeader ||
        Number(bytes_, at + 8, 2) != 0 || begin > limit ||
        bytes_.substr(at + kLocalBytes, static_cast<std::size_t>(name_bytes)) !=
            entry.name) {
      return BadEntry(entry.name,
                      absl::StrCat("its header at offset ", entry.header,
                                   " contradicts the central directory"));
    }
    if (!Inside(begin, entry.size, limit)) {
      return BadEntry(entry.name, absl::StrCat("its ", entry.size,
                                               " bytes at offset ", begin,
                                               " reach beyond the data"));
    }
    return begin;
  }

  static absl::Status CheckApart(std::vector<Span>& spans) {
    std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
      return a.begin < b.begin;
    });
    for (std::size_t i = 1; i < spans.size(); ++i) {
      if (spans[i].begin < spans[i - 1].end) {
        return BadEntry(*spans[i].name, absl::StrCat("overlaps entry ",
                                                     QuoteName(
                                                         *spans[i - 1].name)));
      }
    }
    return absl::OkStatus();
  }

  const absl::string_view bytes_;
};

}  // namespace

absl::StatusOr<std::map<std::string, absl::string_view>> ReadStoredZip(
    absl::string_view bytes) {
  return Reader(bytes).Read();
}

}  // namespace moescope::model::internal
