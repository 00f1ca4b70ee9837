#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "moescope/base/error.h"
#include "moescope/codec/messages.h"

namespace moescope::codec {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class T>
FieldDescriptor::CppType TypeOf(const T&) {
  if constexpr (std::is_same_v<T, bool>) {
    return FieldDescriptor::CPPTYPE_BOOL;
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    return FieldDescriptor::CPPTYPE_INT64;
  } else if constexpr (std::is_same_v<T, double>) {
    return FieldDescriptor::CPPTYPE_DOUBLE;
  } else if constexpr (std::is_same_v<T, std::string>) {
    return FieldDescriptor::CPPTYPE_STRING;
  } else {
    return FieldDescriptor::CPPTYPE_MESSAGE;
  }
}
template <class T>
FieldDescriptor::CppType TypeOf(const std::vector<T>&) {
  return TypeOf(T{});
}

template <class T>
struct IsList : std::false_type {};
template <class T>
struct IsList<std::vector<T>> : std::true_type {};

// Compares the fields of a Spec with those of its message.
struct FieldComparison {
  const Descriptor& message;
  std::set<std::string> names;

  template <class T>
  void operator()(absl::string_view name, const T& value) {
    names.insert(std::string(name));
    const FieldDescriptor* field = message.FindFieldByName(std::string(name));
    ASSERT_NE(field, nullptr) << message.full_name() << " lacks " << name;
    const bool is_word = std::is_same_v<T, std::string> &&
                         field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM;
    EXPECT_TRUE(is_word || field->cpp_type() == TypeOf(value))
        << field->full_name();
    EXPECT_EQ(field->is_repeated(), IsList<T>::value) << field->full_name();
    // Zero on the wire must mean zero, unless absence can be told.
    if constexpr (std::is_arithmetic_v<T>) {
      EXPECT_TRUE(value == T{} || field->has_presence()) << field->full_name();
    }
  }
};

template <class Spec>
void ExpectSameFields() {
  const FieldDescriptor* choice =
      v1::AnalysisSpec::descriptor()->FindFieldByName(std::string(Spec::kName));
  ASSERT_NE(choice, nullptr) << Spec::kName;
  const Descriptor& message = *choice->message_type();
  FieldComparison comparison{message, {}};
  const Spec defaults;
  Spec::VisitFields(defaults, comparison);
  EXPECT_EQ(static_cast<int>(comparison.names.size()), message.field_count())
      << message.full_name();
}

TEST(SpecMessageTest, EveryFieldOfASpecIsInItsMessageAndBack) {
  ExpectSameFields<spec::RoutingTraceSpec>();
  ExpectSameFields<spec::ExpertSimilaritySpec>();
  ExpectSameFields<spec::NeuronWeightStatisticsSpec>();
  ExpectSameFields<spec::ActivationStatisticsSpec>();
  ExpectSameFields<spec::RouterRegressionSpec>();
  ExpectSameFields<spec::MatrixPcaSpec>();
  ExpectSameFields<spec::NeuronPcaSpec>();
  ExpectSameFields<spec::StaticSuiteSpec>();
  ExpectSameFields<spec::NeuronMatchingSpec>();
}

TEST(SpecMessageTest, EveryAnalysisHasAMessage) {
  EXPECT_EQ(static_cast<int>(std::variant_size_v<spec::AnalysisSpec>),
            v1::AnalysisSpec::descriptor()->oneof_decl(0)->field_count());
}

TEST(SpecMessageTest, AbsentFieldsKeepTheirDefaults) {
  v1::AnalysisSpec message;
  message.mutable_activation_statistics()->set_model("tiny");
  const auto spec = SpecFromMessage(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto& activation = std::get<spec::ActivationStatisticsSpec>(*spec);
  EXPECT_EQ(activation.model, "tiny");
  EXPECT_THAT(activation.thresholds, ElementsAre(1e-3));
  EXPECT_EQ(activation.block_tokens, 8192);
}

TEST(SpecMessageTest, GivenFieldsReplaceTheDefaults) {
  v1::NeuronWeightStatisticsSpec message;
  message.set_model("tiny");
  message.set_effective_rank(false);
  message.add_quantiles(0.5);
  message.add_layers(3);
  const auto spec = SpecFromMessage(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto& weights = std::get<spec::NeuronWeightStatisticsSpec>(*spec);
  EXPECT_FALSE(weights.effective_rank);
  EXPECT_THAT(weights.quantiles, ElementsAre(0.5));
  EXPECT_THAT(weights.layers, ElementsAre(3));
}

TEST(SpecMessageTest, AnExplicitZeroIsNotTheDefault) {
  v1::RoutingTraceSpec message;
  message.set_block_tokens(0);
  const auto spec = SpecFromMessage(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(std::get<spec::RoutingTraceSpec>(*spec).block_tokens, 0);
}

TEST(SpecMessageTest, TokensWithoutLengthsAreOneSequence) {
  v1::RoutingTraceSpec message;
  message.mutable_input()->add_ids(5);
  message.mutable_input()->add_ids(6);
  const auto spec = SpecFromMessage(message);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(std::get<spec::RoutingTraceSpec>(*spec).input.lengths,
              ElementsAre(2));
}

std::string MaskedGroupsFrom(int number) {
  v1::RoutingTraceSpec message;
  message.set_masked_groups(static_cast<v1::MaskedGroups>(number));
  const auto spec = SpecFromMessage(message);
  return spec.ok() ? std::get<spec::RoutingTraceSpec>(*spec).masked_groups
                   : spec.status().ToString();
}

int MaskedGroupsTo(const std::string& word) {
  spec::RoutingTraceSpec spec;
  spec.masked_groups = word;
  return ToMessage(spec::AnalysisSpec(spec)).routing_trace().masked_groups();
}

TEST(SpecMessageTest, WordsOfASpecAreValuesOfAnEnum) {
  EXPECT_EQ(MaskedGroupsFrom(v1::MASKED_GROUPS_UNSPECIFIED), "model");
  EXPECT_EQ(MaskedGroupsFrom(v1::MASKED_GROUPS_MODEL), "model");
  EXPECT_EQ(MaskedGroupsFrom(v1::MASKED_GROUPS_ZERO), "zero");
  EXPECT_EQ(MaskedGroupsFrom(v1::MASKED_GROUPS_NEGATIVE_INFINITY),
            "negative_infinity");
  EXPECT_EQ(MaskedGroupsTo("model"), v1::MASKED_GROUPS_MODEL);
  EXPECT_EQ(MaskedGroupsTo("zero"), v1::MASKED_GROUPS_ZERO);
  EXPECT_EQ(MaskedGroupsTo("negative_infinity"),
            v1::MASKED_GROUPS_NEGATIVE_INFINITY);
}

// What is no default on one side is none on the other: Normalise refuses it.
TEST(SpecMessageTest, UnknownValuesOfAnEnumStayUnknown) {
  EXPECT_EQ(MaskedGroupsFrom(7), "7");
  EXPECT_EQ(MaskedGroupsFrom(MaskedGroupsTo("spiral")), "-1");
}

TEST(SpecMessageTest, AMessageWithoutAnalysisListsThem) {
  const absl::Status status = SpecFromMessage(v1::AnalysisSpec()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(status).fields.at(0).field, "spec");
  EXPECT_THAT(std::string(status.message()), HasSubstr("routing_trace"));
}

TEST(SpecMessageTest, AnyOtherMessageIsOurBug) {
  EXPECT_EQ(SpecFromMessage(v1::Array()).status().code(),
            absl::StatusCode::kInternal);
}

TEST(SpecMessageTest, ReadsBackWhatItWrote) {
  spec::ActivationStatisticsSpec spec;
  spec.model = "tiny";
  spec.input = {{1, 2}, {2}, {"prose"}};
  spec.layers = {0, 1};
  spec.thresholds = {0.5, 1.5};
  spec.histogram = {-1, 1, 5};
  spec.top_tokens = 2;
  spec.neuron_layers = {1};
  spec.block_tokens = 64;
  const auto back = SpecFromMessage(ToMessage(spec::AnalysisSpec(spec)));
  ASSERT_TRUE(back.ok()) << back.status();
  const auto& read = std::get<spec::ActivationStatisticsSpec>(*back);
  EXPECT_EQ(read.model, "tiny");
  EXPECT_TRUE(read.input == spec.input);
  EXPECT_THAT(read.layers, ElementsAre(0, 1));
  EXPECT_THAT(read.thresholds, ElementsAre(0.5, 1.5));
  EXPECT_THAT(read.histogram, ElementsAre(-1, 1, 5));
  EXPECT_EQ(read.top_tokens, 2);
  EXPECT_THAT(read.neuron_layers, ElementsAre(1));
  EXPECT_EQ(read.block_tokens, 64);
}

}  // namespace
}  // namespace moescope::codec
