#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"

#include "moescope/codec/bytes.h"

namespace moescope::codec {
namespace {

// Golden tests hold every byte of this: a change gives every cached result
// another key.
class CanonicalWriter {
 public:
  void U64(std::uint64_t value) {
    for (int i = 0; i < 8; ++i) {
      bytes_.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
    }
  }
  void Text(absl::string_view text) {
    U64(text.size());
    bytes_.append(text.data(), text.size());
  }

  void operator()(absl::string_view name, bool value) {
    Begin(name, 'b');
    bytes_.push_back(value ? '\1' : '\0');
  }
  void operator()(absl::string_view name, std::int64_t value) {
    Begin(name, 'i');
    Value(value);
  }
  void operator()(absl::string_view name, double value) {
    Begin(name, 'd');
    Value(value);
  }
  void operator()(absl::string_view name, const std::string& value) {
    // The identity of the model enters the key instead of its name.
    if (name == "model" || name == "baseline") {
      Begin(name, 'm');
      bytes_.push_back(value.empty() ? '\0' : '\1');
      return;
    }
    Begin(name, 's');
    Value(value);
  }
  void operator()(absl::string_view name,
                  const std::vector<std::int64_t>& values) {
    List(name, 'I', values);
  }
  void operator()(absl::string_view name, const std::vector<double>& values) {
    List(name, 'D', values);
  }
  void operator()(absl::string_view name,
                  const std::vector<std::string>& values) {
    List(name, 'S', values);
  }
  void operator()(absl::string_view name, const spec::TokenInput& input) {
    Begin(name, 't');
    Text(spec::TokensDigest(input));
  }

  void Append(absl::string_view bytes) {
    bytes_.append(bytes.data(), bytes.size());
  }
  std::string Take() { return std::move(bytes_); }

 private:
  void Begin(absl::string_view name, char tag) {
    Text(name);
    bytes_.push_back(tag);
  }
  void Value(std::int64_t value) { U64(static_cast<std::uint64_t>(value)); }
  void Value(double value) {
    if (value == 0.0) {
      value = 0.0;  // -0 asks the same question as 0.
    }
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    U64(bits);
  }
  void Value(const std::string& value) { Text(value); }
  template <class T>
  void List(absl::string_view name, char tag, const std::vector<T>& values) {
    Begin(name, tag);
    U64(values.size());
    for (const T& value : values) {
      Value(value);
    }
  }

  std::string bytes_;
};

// The bytes of every field on its own.
struct FieldBytes {
  std::vector<std::pair<absl::string_view, std::string>> fields;
  template <class T>
  void operator()(absl::string_view name, const T& value) {
    CanonicalWriter writer;
    writer(name, value);
    fields.emplace_back(name, writer.Take());
  }
};

template <class Spec>
FieldBytes BytesOf(const Spec& spec) {
  FieldBytes bytes;
  Spec::VisitFields(spec, bytes);
  return bytes;
}

template <class Spec>
const FieldBytes& DefaultBytes() {
  static const auto* const bytes = new FieldBytes(BytesOf(Spec{}));
  return *bytes;
}

template <class Spec, class = void>
struct LaterFields {
  static bool Has(absl::string_view /*name*/) { return false; }
};
template <class Spec>
struct LaterFields<Spec, std::void_t<decltype(Spec::kLaterFields)>> {
  static bool Has(absl::string_view name) {
    return std::find(Spec::kLaterFields.begin(), Spec::kLaterFields.end(),
                     name) != Spec::kLaterFields.end();
  }
};

// The fields that count: not the later ones with their defaults.
template <class Spec>
std::vector<std::string> CountedFields(const Spec& spec) {
  FieldBytes all = BytesOf(spec);
  std::vector<std::string> counted;
  for (std::size_t i = 0; i < all.fields.size(); ++i) {
    auto& [name, bytes] = all.fields[i];
    if (LaterFields<Spec>::Has(name) &&
        bytes == DefaultBytes<Spec>().fields[i].second) {
      continue;
    }
    counted.push_back(std::move(bytes));
  }
  return counted;
}

}  // namespace

std::string CanonicalBytes(const spec::AnalysisSpec& spec) {
  CanonicalWriter writer;
  writer.Text(spec::AnalysisName(spec));
  writer.U64(static_cast<std::uint64_t>(spec::AnalysisVersion(spec)));
  std::visit(
      [&writer](const auto& alternative) {
        const std::vector<std::string> fields = CountedFields(alternative);
        writer.U64(fields.size());
        for (const std::string& field : fields) writer.Append(field);
      },
      spec);
  return writer.Take();
}

}  // namespace moescope::codec
