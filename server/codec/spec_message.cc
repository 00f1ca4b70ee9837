#include <google/protobuf/reflection.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/macros.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "server/codec/spec_message_internal.h"

#include "moescope/base/error.h"
#include "moescope/base/status_macros.h"
#include "moescope/codec/messages.h"

namespace moescope::codec {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// A Spec's field in its message. Both have the same names, which a test holds.
const FieldDescriptor& FieldOf(const Message& message, absl::string_view name) {
  const FieldDescriptor* field =
      message.GetDescriptor()->FindFieldByName(std::string(name));
  ABSL_HARDENING_ASSERT(field != nullptr);
  return *field;
}

// A word of a Spec that is an enum in its message: "zero" is MASKED_GROUPS_ZERO
// of MaskedGroups. Every enum's number 0 is unspecified and has no word.
constexpr absl::string_view kUnspecified = "UNSPECIFIED";

std::string PrefixOf(const EnumDescriptor& type) {
  const std::string& zero = type.FindValueByNumber(0)->name();
  return zero.substr(0, zero.size() - kUnspecified.size());
}

// The word for `number`; the number itself where the enum has none such.
std::string WordOf(const EnumDescriptor& type, int number) {
  const EnumValueDescriptor* value = type.FindValueByNumber(number);
  if (value == nullptr) return absl::StrCat(number);
  return absl::AsciiStrToLower(value->name().substr(PrefixOf(type).size()));
}

// The number for `word`; where the enum has none such one that Normalise refuses
// on the other side, not one that means a default.
int NumberOf(const EnumDescriptor& type, absl::string_view word) {
  const EnumValueDescriptor* value = type.FindValueByName(
      absl::StrCat(PrefixOf(type), absl::AsciiStrToUpper(word)));
  return value == nullptr ? -1 : value->number();
}

v1::TokenInput TokensToMessage(const spec::TokenInput& input) {
  v1::TokenInput message;
  message.mutable_ids()->Assign(input.ids.begin(), input.ids.end());
  message.mutable_lengths()->Assign(input.lengths.begin(), input.lengths.end());
  message.mutable_labels()->Assign(input.labels.begin(), input.labels.end());
  return message;
}

// Writes the fields that VisitFields shows into a message.
class FieldWriter {
 public:
  explicit FieldWriter(Message& message)
      : message_(message), reflection_(*message.GetReflection()) {}

  void operator()(absl::string_view name, bool value) {
    reflection_.SetBool(&message_, &FieldOf(message_, name), value);
  }
  void operator()(absl::string_view name, std::int64_t value) {
    reflection_.SetInt64(&message_, &FieldOf(message_, name), value);
  }
  void operator()(absl::string_view name, double value) {
    reflection_.SetDouble(&message_, &FieldOf(message_, name), value);
  }
  void operator()(absl::string_view name, const std::string& value) {
    const FieldDescriptor& field = FieldOf(message_, name);
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      reflection_.SetEnumValue(&message_, &field,
                               NumberOf(*field.enum_type(), value));
      return;
    }
    reflection_.SetString(&message_, &field, value);
  }
  template <class T>
  void operator()(absl::string_view name, const std::vector<T>& values) {
    auto repeated = reflection_.GetMutableRepeatedFieldRef<T>(
        &message_, &FieldOf(message_, name));
    repeated.CopyFrom(values);
  }
  void operator()(absl::string_view name, const spec::TokenInput& input) {
    reflection_.MutableMessage(&message_, &FieldOf(message_, name))
        ->CopyFrom(TokensToMessage(input));
  }

 private:
  Message& message_;
  const Reflection& reflection_;
};

// Fills the fields that VisitFields shows from a message.
class FieldReader {
 public:
  FieldReader(const Message& message, internal::EmptyList empty_list)
      : message_(message),
        reflection_(*message.GetReflection()),
        empty_list_(empty_list) {}

  void operator()(absl::string_view name, bool& value) {
    if (const FieldDescriptor* field = Given(name)) {
      value = reflection_.GetBool(message_, field);
    }
  }
  void operator()(absl::string_view name, std::int64_t& value) {
    if (const FieldDescriptor* field = Given(name)) {
      value = reflection_.GetInt64(message_, field);
    }
  }
  void operator()(absl::string_view name, double& value) {
    if (const FieldDescriptor* field = Given(name)) {
      value = reflection_.GetDouble(message_, field);
    }
  }
  void operator()(absl::string_view name, std::string& value) {
    const FieldDescriptor* field = Given(name);
    if (field == nullptr) return;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      value = reflection_.GetString(message_, field);
    } else if (const int number = reflection_.GetEnumValue(message_, field);
               number != 0) {
      value = WordOf(*field->enum_type(), number);
    }
  }
  template <class T>
  void operator()(absl::string_view name, std::vector<T>& values) {
    const auto repeated =
        reflection_.GetRepeatedFieldRef<T>(message_, &FieldOf(message_, name));
    if (repeated.size() > 0 || empty_list_ == internal::EmptyList::kEmpty) {
      values.assign(repeated.begin(), repeated.end());
    }
  }
  void operator()(absl::string_view name, spec::TokenInput& input) {
    v1::TokenInput tokens;
    tokens.CopyFrom(reflection_.GetMessage(message_, &FieldOf(message_, name)));
    input.ids.assign(tokens.ids().begin(), tokens.ids().end());
    input.lengths.assign(tokens.lengths().begin(), tokens.lengths().end());
    input.labels.assign(tokens.labels().begin(), tokens.labels().end());
    if (empty_list_ == internal::EmptyList::kDefault && input.lengths.empty() &&
        !input.ids.empty()) {
      input.lengths = {static_cast<std::int64_t>(input.ids.size())};
    }
  }

 private:
  // The field, or nullptr when it is absent and keeps its default.
  const FieldDescriptor* Given(absl::string_view name) const {
    const FieldDescriptor& field = FieldOf(message_, name);
    const bool absent =
        field.has_presence() && !reflection_.HasField(message_, &field);
    return absent ? nullptr : &field;
  }

  const Message& message_;
  const Reflection& reflection_;
  const internal::EmptyList empty_list_;
};

// The analysis whose Spec has the type `type`; its name is that of the oneof
// field.
absl::StatusOr<spec::AnalysisSpec> DefaultFor(const Descriptor& type) {
  const auto& choice = *v1::AnalysisSpec::descriptor()->oneof_decl(0);
  for (int i = 0; i < choice.field_count(); ++i) {
    if (choice.field(i)->message_type() == &type) {
      return spec::DefaultSpec(choice.field(i)->name());
    }
  }
  return absl::InternalError(
      absl::StrCat("message ", type.full_name(), " is no Spec"));
}

absl::Status NoAnalysis() {
  const auto& choice = *v1::AnalysisSpec::descriptor()->oneof_decl(0);
  std::vector<std::string> names;
  for (int i = 0; i < choice.field_count(); ++i) {
    names.push_back(choice.field(i)->name());
  }
  return InvalidField("spec", absl::StrCat("names no analysis; known: ",
                                           absl::StrJoin(names, ", ")));
}

}  // namespace

namespace internal {

absl::StatusOr<spec::AnalysisSpec> ReadSpec(const Message& message,
                                            EmptyList empty_list) {
  if (message.GetDescriptor() == v1::AnalysisSpec::descriptor()) {
    const Reflection& reflection = *message.GetReflection();
    const FieldDescriptor* chosen = reflection.GetOneofFieldDescriptor(
        message, v1::AnalysisSpec::descriptor()->oneof_decl(0));
    if (chosen == nullptr) {
      return NoAnalysis();
    }
    return ReadSpec(reflection.GetMessage(message, chosen), empty_list);
  }
  MOESCOPE_ASSIGN_OR_RETURN(spec::AnalysisSpec spec,
                            DefaultFor(*message.GetDescriptor()));
  std::visit(
      [&message, empty_list](auto& alternative) {
        FieldReader reader(message, empty_list);
        std::decay_t<decltype(alternative)>::VisitFields(alternative, reader);
      },
      spec);
  return spec;
}

}  // namespace internal

v1::AnalysisSpec ToMessage(const spec::AnalysisSpec& spec) {
  v1::AnalysisSpec message;
  Message& chosen = *message.GetReflection()->MutableMessage(
      &message, &FieldOf(message, spec::AnalysisName(spec)));
  std::visit(
      [&chosen](const auto& alternative) {
        FieldWriter writer(chosen);
        std::decay_t<decltype(alternative)>::VisitFields(alternative, writer);
      },
      spec);
  return message;
}

absl::StatusOr<spec::AnalysisSpec> SpecFromMessage(const Message& message) {
  return internal::ReadSpec(message, internal::EmptyList::kDefault);
}

}  // namespace moescope::codec
