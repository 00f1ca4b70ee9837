// What `buf lint` with STANDARD and COMMENTS asks of proto/moescope/v1, for
// machines without buf.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::EnumDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::FileDescriptorProto;
using google::protobuf::FileDescriptorSet;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// "DataType" becomes "DATA_TYPE".
std::string UpperSnake(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (absl::ascii_isupper(static_cast<unsigned char>(c)) && !out.empty()) {
      out.push_back('_');
    }
    out.push_back(absl::ascii_toupper(static_cast<unsigned char>(c)));
  }
  return out;
}

bool IsLowerSnake(const std::string& name) {
  return absl::AsciiStrToLower(name) == name &&
         !absl::StrContains(name, "__") && !absl::EndsWith(name, "_");
}

// Walks the descriptors and collects what breaks a rule.
class Linter {
 public:
  void Check(const FileDescriptor& file) {
    std::string folder = file.package();
    for (char& c : folder) {
      c = c == '.' ? '/' : c;
    }
    Require(absl::StartsWith(file.name(), absl::StrCat(folder, "/")),
            file.name(), "does not lie in the folder of its package");
    for (int i = 0; i < file.message_type_count(); ++i) {
      CheckMessage(*file.message_type(i));
    }
    for (int i = 0; i < file.enum_type_count(); ++i) {
      CheckEnum(*file.enum_type(i));
    }
    for (int i = 0; i < file.service_count(); ++i) {
      CheckService(*file.service(i));
    }
  }
  const std::vector<std::string>& complaints() const { return complaints_; }

 private:
  void Require(bool holds, const std::string& name, const std::string& what) {
    if (!holds) {
      complaints_.push_back(absl::StrCat(name, " ", what));
    }
  }
  template <class T>
  void RequireComment(const T& element) {
    google::protobuf::SourceLocation location;
    const bool found = element.GetSourceLocation(&location);
    Require(found && location.leading_comments.size() > 5, element.full_name(),
            "has no comment");
  }

  void CheckMessage(const Descriptor& message) {
    if (message.options().map_entry()) {
      return;  // Made by the compiler, for a map.
    }
    RequireComment(message);
    for (int i = 0; i < message.field_count(); ++i) {
      RequireComment(*message.field(i));
      Require(IsLowerSnake(message.field(i)->name()),
              message.field(i)->full_name(), "is not lower_snake_case");
    }
    for (int i = 0; i < message.real_oneof_decl_count(); ++i) {
      RequireComment(*message.oneof_decl(i));
    }
    for (int i = 0; i < message.nested_type_count(); ++i) {
      CheckMessage(*message.nested_type(i));
    }
    for (int i = 0; i < message.enum_type_count(); ++i) {
      CheckEnum(*message.enum_type(i));
    }
  }

  void CheckEnum(const EnumDescriptor& type) {
    RequireComment(type);
    const std::string prefix = absl::StrCat(UpperSnake(type.name()), "_");
    for (int i = 0; i < type.value_count(); ++i) {
      RequireComment(*type.value(i));
      Require(absl::StartsWith(type.value(i)->name(), prefix),
              type.value(i)->full_name(), absl::StrCat("lacks ", prefix));
    }
    Require(type.value(0)->number() == 0 &&
                type.value(0)->name() == absl::StrCat(prefix, "UNSPECIFIED"),
            type.full_name(), "does not begin with _UNSPECIFIED = 0");
  }

  void CheckService(const ServiceDescriptor& service) {
    RequireComment(service);
    Require(absl::EndsWith(service.name(), "Service"), service.full_name(),
            "does not end with Service");
    for (int i = 0; i < service.method_count(); ++i) {
      CheckMethod(*service.method(i));
    }
  }

  void CheckMethod(const MethodDescriptor& method) {
    RequireComment(method);
    google::protobuf::SourceLocation location;
    method.GetSourceLocation(&location);
    for (const char* part : {"Codes:", "Idempotent", "Cache:"}) {
      Require(absl::StrContains(location.leading_comments, part),
              method.full_name(), absl::StrCat("does not say ", part));
    }
    Require(
        method.input_type()->name() == absl::StrCat(method.name(), "Request") &&
            method.output_type()->name() ==
                absl::StrCat(method.name(), "Response"),
        method.full_name(), "has oddly named messages");
    Require(++uses_[method.input_type()->full_name()] == 1 &&
                ++uses_[method.output_type()->full_name()] == 1,
            method.full_name(), "shares its messages");
  }

  std::map<std::string, int> uses_;
  std::vector<std::string> complaints_;
};

// The files of proto/ with their comments, as protoc wrote them.
class ProtoContractTest : public ::testing::Test {
 protected:
  ProtoContractTest() {
    std::ifstream stream(MOESCOPE_DESCRIPTORS, std::ios::binary);
    FileDescriptorSet set;
    EXPECT_TRUE(set.ParseFromIstream(&stream)) << MOESCOPE_DESCRIPTORS;
    for (const FileDescriptorProto& proto : set.file()) {
      const FileDescriptor* file = pool_.BuildFile(proto);
      EXPECT_NE(file, nullptr) << proto.name();
      if (file != nullptr && file->package() == "moescope.v1") {
        files_.push_back(file);
      }
    }
  }

  DescriptorPool pool_;
  std::vector<const FileDescriptor*> files_;
};

TEST_F(ProtoContractTest, KeepsEveryRule) {
  Linter linter;
  for (const FileDescriptor* file : files_) {
    linter.Check(*file);
  }
  EXPECT_THAT(files_, SizeIs(8));
  EXPECT_THAT(linter.complaints(), IsEmpty());
}

TEST_F(ProtoContractTest, ImportsNothingThatAClientMayHoldItself) {
  std::vector<std::string> imports;
  for (const FileDescriptor* file : files_) {
    for (int i = 0; i < file->dependency_count(); ++i) {
      if (absl::StartsWith(file->dependency(i)->name(), "google/rpc/")) {
        imports.push_back(file->name());
      }
    }
  }
  EXPECT_THAT(imports, IsEmpty());
}

struct Number {
  const char* field;
  int number;
};
void PrintTo(const Number& number, std::ostream* out) { *out << number.field; }

// Stock clients know these by number.
class ErrorDetailNumberTest : public ProtoContractTest,
                              public ::testing::WithParamInterface<Number> {};

TEST_P(ErrorDetailNumberTest, IsWhatClientsExpect) {
  const auto* field = pool_.FindFieldByName(GetParam().field);
  ASSERT_NE(field, nullptr);
  EXPECT_EQ(field->number(), GetParam().number);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, ErrorDetailNumberTest,
    ::testing::Values(
        Number{"google.rpc.Status.code", 1},
        Number{"google.rpc.Status.message", 2},
        Number{"google.rpc.Status.details", 3},
        Number{"google.rpc.ErrorInfo.reason", 1},
        Number{"google.rpc.ErrorInfo.domain", 2},
        Number{"google.rpc.ErrorInfo.metadata", 3},
        Number{"google.rpc.RetryInfo.retry_delay", 1},
        Number{"google.rpc.BadRequest.field_violations", 1},
        Number{"google.rpc.BadRequest.FieldViolation.field", 1},
        Number{"google.rpc.BadRequest.FieldViolation.description", 2},
        Number{"google.rpc.PreconditionFailure.violations", 1},
        Number{"google.rpc.PreconditionFailure.Violation.type", 1},
        Number{"google.rpc.PreconditionFailure.Violation.subject", 2},
        Number{"google.rpc.PreconditionFailure.Violation.description", 3},
        Number{"google.rpc.QuotaFailure.violations", 1},
        Number{"google.rpc.QuotaFailure.Violation.subject", 1},
        Number{"google.rpc.QuotaFailure.Violation.description", 2},
        Number{"google.rpc.RequestInfo.request_id", 1},
        Number{"google.rpc.RequestInfo.serving_data", 2},
        Number{"google.rpc.ResourceInfo.resource_type", 1},
        Number{"google.rpc.ResourceInfo.resource_name", 2},
        Number{"google.rpc.ResourceInfo.owner", 3},
        Number{"google.rpc.ResourceInfo.description", 4},
        Number{"google.rpc.LocalizedMessage.locale", 1},
        Number{"google.rpc.LocalizedMessage.message", 2}));

}  // namespace
