#include "moescope/model/checkpoint.h"

#include <cstring>
#include <filesystem>
#include <memory>
#include <ostream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "moescope/base/error.h"
#include "moescope/base/sha256.h"
#include "moescope/model/tokenizer.h"
#include "server/model/layer_tensors_internal.h"
#include "tests/model/safetensors_bytes.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using CheckpointPtr = std::shared_ptr<const Checkpoint>;

std::string Testdata(const std::string& name) {
  return MOESCOPE_SOURCE_DIR "/tests/testdata/" + name;
}

std::string Message(const absl::StatusOr<CheckpointPtr>& checkpoint) {
  return std::string(checkpoint.status().message());
}

std::string Bytes(const numerics::MatrixView& view) {
  return std::string(static_cast<const char*>(view.data),
                     static_cast<std::size_t>(
                         view.size() * numerics::ElementSize(view.type)));
}

float ElementF32(const numerics::MatrixView& view, std::int64_t index) {
  float value = 0;
  std::memcpy(&value, static_cast<const char*>(view.data) + index * 4, 4);
  return value;
}

class FixtureTest : public ::testing::TestWithParam<const char*> {};

TEST_P(FixtureTest, OpensWithEitherConfig) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata(GetParam(), "model");
  const auto first = Checkpoint::Open(folder);
  std::error_code error;
  fs::rename(folder + "/config_v5.json", folder + "/config.json", error);
  const auto second = Checkpoint::Open(folder);

  EXPECT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(second.ok()) << second.status();
}

INSTANTIATE_TEST_SUITE_P(
    Checkpoints, FixtureTest,
    ::testing::Values("fixtures/mixtral", "fixtures/mixtral_bf16",
                      "fixtures/mixtral_fp16", "fixtures/mixtral_swa",
                      "fixtures/mixtral_fused", "fixtures/deepseek",
                      "fixtures/deepseek_v2", "fixtures/deepseek_v2_lite",
                      "fixtures/deepseek_v3", "fixtures/deepseek_v3_negbias",
                      "fixtures/deepseek_v3_fp8",
                      "fixtures/olmoe", "fixtures/qwen2_moe",
                      "fixtures/qwen3_moe", "fixtures/qwen3_moe_fused",
                      "fixtures/qwen3_moe_sparse_step", "fixtures/llama",
                      "fixtures/mistral", "fixtures/phimoe", "fixtures/gpt_oss",
                      "fixtures/gpt_oss_mxfp4", "fixtures/llama4_text",
                      "fixtures/llama4_text_nested", "fixtures/dbrx",
                      "fixtures/jetmoe", "fixtures/grok1", "models/tiny-mixtral",
                      "models/tiny-deepseek", "models/tiny-mistral"));

TEST(CheckpointTest, HandsOutExpertsInPlace) {
  const auto checkpoint = Checkpoint::Open(Testdata("fixtures/mixtral"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  const auto expert = (*checkpoint)->Expert(1, 3);

  ASSERT_TRUE(expert.ok()) << expert.status();
  const std::string prefix = "model.layers.1.block_sparse_moe.experts.3.";
  EXPECT_EQ((*expert)[Projection::kGate].data,
            (*checkpoint)->FindTensor(prefix + "w1.weight")->data);
  EXPECT_EQ((*expert)[Projection::kUp].data,
            (*checkpoint)->FindTensor(prefix + "w3.weight")->data);
  EXPECT_EQ((*expert)[Projection::kDown].data,
            (*checkpoint)->FindTensor(prefix + "w2.weight")->data);
  EXPECT_EQ((*expert)[Projection::kGate].rows, 28);
  EXPECT_EQ((*expert)[Projection::kGate].cols, 40);
  EXPECT_EQ((*expert)[Projection::kDown].rows, 40);
  EXPECT_EQ((*expert)[Projection::kDown].cols, 28);
  EXPECT_EQ((*expert)[Projection::kGate].type, numerics::ElementType::kFloat32);
}

TEST(CheckpointTest, ReadsTheValuesThatWereWritten) {
  const auto checkpoint = Checkpoint::Open(Testdata("fixtures/mixtral"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  const auto router = (*checkpoint)->Router(0);
  const auto expert = (*checkpoint)->Expert(1, 7);

  ASSERT_TRUE(router.ok()) << router.status();
  ASSERT_TRUE(expert.ok()) << expert.status();
  EXPECT_EQ(router->rows, 8);
  EXPECT_EQ(router->cols, 40);
  // Read from the file by another program.
  EXPECT_EQ(ElementF32(*router, 0), -0.361109704F);
  EXPECT_EQ(ElementF32(*router, 319), 0.0381854139F);
  EXPECT_EQ(ElementF32((*expert)[Projection::kDown], 1119), 0.0512181744F);
}

TEST(CheckpointTest, FusedExpertsEqualThoseOnTheirOwn) {
  const auto fused = Checkpoint::Open(Testdata("fixtures/mixtral_fused"));
  const auto plain = Checkpoint::Open(Testdata("fixtures/mixtral"));
  ASSERT_TRUE(fused.ok()) << fused.status();
  ASSERT_TRUE(plain.ok()) << plain.status();

  for (std::int64_t layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(Bytes(*(*fused)->Router(layer)), Bytes(*(*plain)->Router(layer)));
    for (std::int64_t e = 0; e < 8; ++e) {
      const ExpertWeights a = *(*fused)->Expert(layer, e);
      const ExpertWeights b = *(*plain)->Expert(layer, e);
      EXPECT_EQ(Bytes(a[Projection::kGate]), Bytes(b[Projection::kGate]));
      EXPECT_EQ(Bytes(a[Projection::kUp]), Bytes(b[Projection::kUp]));
      EXPECT_EQ(Bytes(a[Projection::kDown]), Bytes(b[Projection::kDown]));
      EXPECT_EQ(a[Projection::kUp].rows, 28);
      EXPECT_TRUE(a[Projection::kUp].contiguous());
    }
  }
}

TEST(CheckpointTest, KnowsTheNumberFormat) {
  const auto bf16 = Checkpoint::Open(Testdata("fixtures/mixtral_bf16"));
  const auto fp16 = Checkpoint::Open(Testdata("fixtures/mixtral_fp16"));
  ASSERT_TRUE(bf16.ok() && fp16.ok());

  EXPECT_EQ((*bf16)->dtype(), "BF16");
  EXPECT_EQ((*bf16)->Router(0)->type, numerics::ElementType::kBFloat16);
  EXPECT_EQ((*fp16)->dtype(), "F16");
  EXPECT_EQ((*fp16)->Router(0)->type, numerics::ElementType::kFloat16);
}

TEST(CheckpointTest, ShowsSharedExpertsAndDenseLayers) {
  const auto checkpoint = Checkpoint::Open(Testdata("fixtures/deepseek"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  const auto shared = (*checkpoint)->SharedExpert(1);
  const auto dense = (*checkpoint)->DenseBlock(0);

  ASSERT_TRUE(shared.ok() && shared->has_value());
  EXPECT_EQ((**shared)[Projection::kGate].rows, 40);
  ASSERT_TRUE(dense.ok()) << dense.status();
  EXPECT_EQ((*dense)[Projection::kGate].rows, 44);
  EXPECT_FALSE((*checkpoint)->SharedExpert(0)->has_value());
  EXPECT_EQ((*checkpoint)->Router(0).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ((*checkpoint)->Expert(0, 0).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ((*checkpoint)->DenseBlock(1).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(CheckpointTest, AModelWithoutSharedExpertsSaysSo) {
  const auto checkpoint = Checkpoint::Open(Testdata("fixtures/mixtral"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  EXPECT_FALSE((*checkpoint)->SharedExpert(0)->has_value());
}

TEST(CheckpointTest, LayersAndExpertsOutOfRangeAreNamed) {
  const auto checkpoint = Checkpoint::Open(Testdata("fixtures/mixtral"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  const absl::Status layer = (*checkpoint)->Router(2).status();
  const absl::Status expert = (*checkpoint)->Expert(0, 8).status();

  EXPECT_EQ(layer.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(std::string(layer.message()), "layer: 2 is outside [0, 1]");
  EXPECT_EQ(expert.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(GetErrorDetails(expert).fields.front().field, "expert");
  EXPECT_EQ((*checkpoint)->DenseBlock(-1).status().code(),
            absl::StatusCode::kOutOfRange);
}

TEST(CheckpointTest, KnowsTensorsByRole) {
  const auto checkpoint = Checkpoint::Open(Testdata("fixtures/mixtral_swa"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  const internal::ModelTensors& tensors = (*checkpoint)->tensors_by_role();

  EXPECT_THAT(tensors.embeddings->shape, ElementsAre(128, 40));
  EXPECT_FALSE(tensors.lm_head_is_embeddings);
  EXPECT_EQ(tensors.final_norm.weight->name, "model.norm.weight");
  ASSERT_EQ(tensors.layers.size(), 2u);
  const internal::AttentionTensors& attention = tensors.layers[1].attention;
  EXPECT_EQ(attention.q.weight.rows, 64);
  EXPECT_EQ(attention.k.weight.rows, 32);
  EXPECT_EQ(attention.o.weight.rows, 40);
  EXPECT_EQ(attention.o.weight.cols, 64);
  EXPECT_EQ(attention.q.bias, nullptr);
}

TEST(CheckpointTest, TiedEmbeddingsServeAsHead) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "model");
  json config = json::parse(ReadBytes(folder + "/config.json"));
  config["tie_word_embeddings"] = true;
  scratch.Write("model/config.json", config.dump());

  const auto checkpoint = Checkpoint::Open(folder);

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const internal::ModelTensors& tensors = (*checkpoint)->tensors_by_role();
  EXPECT_TRUE(tensors.lm_head_is_embeddings);
  EXPECT_EQ(tensors.lm_head.weight.data, tensors.embeddings->data);
}

TEST(CheckpointTest, ReadsShardsTheTokenizerAndNothingElse) {
  const auto checkpoint = Checkpoint::Open(Testdata("models/tiny-mixtral"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  EXPECT_EQ((*checkpoint)->weight_bytes(), 5557024 + 5556632);
  EXPECT_EQ((*checkpoint)->FindTensor("short.logits"), nullptr);
  EXPECT_EQ((*checkpoint)->dtype(), "BF16");
  ASSERT_NE((*checkpoint)->tokenizer(), nullptr)
      << (*checkpoint)->tokenizer_status();
  EXPECT_EQ((*checkpoint)->tokenizer()->vocab_size(), 2048);
}

TEST(CheckpointTest, TakesASentencePieceModelWhereThereIsNoJson) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("models/tiny-mixtral", "m");
  fs::remove(folder + "/tokenizer.json");
  fs::copy(Testdata("tokenizer/llama_bpe.model"), folder + "/tokenizer.model");

  const auto checkpoint = Checkpoint::Open(folder);

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ASSERT_NE((*checkpoint)->tokenizer(), nullptr)
      << (*checkpoint)->tokenizer_status();
  EXPECT_EQ((*checkpoint)->tokenizer()->Describe(),
            "SentencePiece BPE, byte fallback, 900 entries");
}

TEST(CheckpointTest, ATokenizerWithIdsBeyondTheVocabularyIsNotUsed) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "m");
  fs::copy(Testdata("tokenizer/llama_bpe.model"), folder + "/tokenizer.model");

  const auto checkpoint = Checkpoint::Open(folder);

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->tokenizer(), nullptr);
  EXPECT_EQ((*checkpoint)->tokenizer_status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ((*checkpoint)->tokenizer_status().message(),
            "the tokenizer's highest token id is 899, but vocab_size of "
            "config.json is 128");
}

TEST(CheckpointTest, ACheckpointWithoutTokenizerOpens) {
  const auto checkpoint = Checkpoint::Open(Testdata("fixtures/mixtral"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  EXPECT_EQ((*checkpoint)->tokenizer(), nullptr);
  EXPECT_EQ((*checkpoint)->tokenizer_status().code(),
            absl::StatusCode::kNotFound);
}

TEST(CheckpointTest, RefusesAFolderThatIsNotThere) {
  ScratchFolder scratch;
  const auto checkpoint = Checkpoint::Open(scratch / "gone");

  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(checkpoint), "model folder \"gone\" does not exist");
}

TEST(CheckpointTest, RefusesAFolderWithoutConfigOrWeights) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "model");
  fs::remove(folder + "/model.safetensors");
  const auto no_weights = Checkpoint::Open(folder);
  fs::remove(folder + "/config.json");
  const auto no_config = Checkpoint::Open(folder);

  EXPECT_EQ(no_weights.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(no_weights),
              HasSubstr("has none of model.safetensors, "));
  EXPECT_EQ(no_config.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(no_config), StartsWith("config.json: "));
}

TEST(CheckpointTest, RefusesABadConfigNamingItAndTheKey) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "model");
  scratch.Write("model/config.json", R"({"model_type":"mixtral"})");

  const auto checkpoint = Checkpoint::Open(folder);

  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Message(checkpoint), "config.json: num_hidden_layers: missing");
}

TEST(CheckpointTest, RefusesATruncatedShardNamingIt) {
  ScratchFolder scratch;
  const std::string folder =
      scratch.CopyTestdata("models/tiny-mixtral", "model");
  fs::resize_file(folder + "/model-00002-of-00002.safetensors", 5'000'000);

  const auto checkpoint = Checkpoint::Open(folder);

  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(checkpoint),
              AllOf(StartsWith("model-00002-of-00002.safetensors: tensor "),
                    HasSubstr("lie beyond the file's")));
}

TEST(CheckpointTest, NamesAMissingShard) {
  ScratchFolder scratch;
  const std::string folder =
      scratch.CopyTestdata("models/tiny-mixtral", "model");
  fs::remove(folder + "/model-00002-of-00002.safetensors");

  const auto checkpoint = Checkpoint::Open(folder);

  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(checkpoint),
              HasSubstr("\"model-00002-of-00002.safetensors\" is missing"));
}

TEST(CheckpointTest, NamesAMissingTensor) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "model");
  json config = json::parse(ReadBytes(folder + "/config.json"));
  config["num_hidden_layers"] = 3;
  scratch.Write("model/config.json", config.dump());

  const auto checkpoint = Checkpoint::Open(folder);

  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Message(checkpoint),
            "tensor \"model.layers.2.block_sparse_moe.gate.weight\" of family "
            "mixtral is missing");
}

// The weights file of `folder` with one name changed to another of its length.
void RenameTensor(const ScratchFolder& scratch, const std::string& from,
                  const std::string& to) {
  std::string bytes = ReadBytes(scratch / "model/model.safetensors");
  const std::size_t at = bytes.find("\"" + from + "\"");
  ASSERT_NE(at, std::string::npos);
  ASSERT_EQ(from.size(), to.size());
  bytes.replace(at + 1, from.size(), to);
  scratch.Write("model/model.safetensors", bytes);
}

TEST(CheckpointTest, AMissingAttentionTensorForbidsForwardPassesAlone) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "model");
  RenameTensor(scratch, "model.layers.1.self_attn.q_proj.weight",
               "model.layers.1.self_attn.x_proj.weight");

  const auto checkpoint = Checkpoint::Open(folder);

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE((*checkpoint)->Router(1).ok());
  EXPECT_TRUE((*checkpoint)->Expert(1, 7).ok());
  EXPECT_EQ((*checkpoint)->forward_status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ((*checkpoint)->forward_status().message(),
            "tensor \"model.layers.1.self_attn.q_proj.weight\" of family "
            "mixtral is missing");
}

// The names of all others tell that they have the prefix.
TEST(CheckpointTest, NamesAMissingTensorWithItsPrefix) {
  ScratchFolder scratch;
  const std::string folder =
      scratch.CopyTestdata("fixtures/llama4_text_nested", "model");
  RenameTensor(scratch, "language_model.model.embed_tokens.weight",
               "language_model.model.embed_xxxxxx.weight");

  const auto checkpoint = Checkpoint::Open(folder);

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->forward_status().message(),
              HasSubstr("\"language_model.model.embed_tokens.weight\""));
}

TEST(CheckpointTest, NamesAMissingFusedTensorAsTheOthersAre) {
  ScratchFolder scratch;
  const std::string folder =
      scratch.CopyTestdata("fixtures/mixtral_fused", "model");
  RenameTensor(scratch, "model.layers.1.mlp.experts.gate_up_proj",
               "model.layers.1.mlp.experts.gate_xx_proj");

  EXPECT_THAT(Message(Checkpoint::Open(folder)),
              HasSubstr("\"model.layers.1.mlp.experts.gate_up_proj\""));
}

TEST(CheckpointTest, AWholeCheckpointCanMakeForwardPasses) {
  const auto checkpoint = Checkpoint::Open(Testdata("fixtures/mixtral"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  EXPECT_TRUE((*checkpoint)->forward_status().ok());
}

TEST(CheckpointTest, NamesATensorOfAnotherShape) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "model");
  json config = json::parse(ReadBytes(folder + "/config.json"));
  config["vocab_size"] = 127;
  scratch.Write("model/config.json", config.dump());

  const auto checkpoint = Checkpoint::Open(folder);

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->forward_status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ((*checkpoint)->forward_status().message(),
            "tensor \"model.embed_tokens.weight\": shape is [128, 40], "
            "config.json implies [127, 40]");
}

TEST(CheckpointTest, RefusesAnExpertOfAnotherShape) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "model");
  json config = json::parse(ReadBytes(folder + "/config.json"));
  config["intermediate_size"] = 14;
  scratch.Write("model/config.json", config.dump());

  const auto checkpoint = Checkpoint::Open(folder);

  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Message(checkpoint),
            "tensor \"model.layers.0.block_sparse_moe.experts.0.w1.weight\": "
            "shape is [28, 40], config.json implies [14, 40]");
}

TEST(CheckpointTest, NamesAWeightOfAnUnsupportedFormat) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "model");
  std::string bytes = ReadBytes(folder + "/model.safetensors");
  const std::size_t name = bytes.find("\"model.norm.weight\"");
  ASSERT_NE(name, std::string::npos);
  bytes.replace(bytes.find("F32", name), 3, "I32");
  scratch.Write("model/model.safetensors", bytes);

  const auto checkpoint = Checkpoint::Open(folder);

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->forward_status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string((*checkpoint)->forward_status().message()),
              HasSubstr("tensor \"model.norm.weight\": dtype I32"));
}

TEST(CheckpointTest, AnIndexLeftBesideAWholeModelDoesNotCount) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "model");
  const auto alone = Checkpoint::Open(folder);
  ASSERT_TRUE(alone.ok()) << alone.status();
  scratch.Write("model/model.safetensors.index.json",
                R"({"weight_map":{"a":"model-00001-of-00002.safetensors"}})");

  const auto checkpoint = Checkpoint::Open(folder);

  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->FindTensor("a"), nullptr);
  EXPECT_EQ((*checkpoint)->identity().id, (*alone)->identity().id);
}

struct BadIndex {
  const char* name;
  const char* text;
  const char* cause;
};

// Without it gtest prints bytes, addresses among them, into test names.
void PrintTo(const BadIndex& row, std::ostream* out) { *out << row.name; }

class BadIndexTest : public ::testing::TestWithParam<BadIndex> {};

TEST_P(BadIndexTest, IsRefusedNamingTheCause) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "model");
  fs::rename(folder + "/model.safetensors", folder + "/part.safetensors");
  scratch.Write("model/model.safetensors.index.json", GetParam().text);

  const auto checkpoint = Checkpoint::Open(folder);

  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(checkpoint), HasSubstr(GetParam().cause));
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadIndexTest,
    ::testing::Values(
        BadIndex{"NoJson", "x", "model.safetensors.index.json: not valid JSON"},
        BadIndex{"NoMap", "{}", "weight_map: must be an object"},
        BadIndex{"EmptyMap", R"({"weight_map":{}})", "weight_map: must be"},
        BadIndex{"NumberForShard", R"({"weight_map":{"a":1}})",
                 "tensor \"a\" has no file name"},
        BadIndex{"ParentFolder",
                 R"({"weight_map":{"a":"../part.safetensors"}})",
                 "which is no plain *.safetensors file name"},
        BadIndex{"AbsolutePath",
                 R"({"weight_map":{"a":"/tmp/part.safetensors"}})",
                 "which is no plain"},
        BadIndex{"NulInName",
                 R"({"weight_map":{"a":"x\u0000.safetensors"}})",
                 "which is no plain"},
        BadIndex{"EmptyName", R"({"weight_map":{"a":""}})",
                 "which is no plain"},
        BadIndex{"OtherFileType", R"({"weight_map":{"a":"config.json"}})",
                 "which is no plain"},
        BadIndex{"TwiceTheSameTensor",
                 R"({"weight_map":{"a":"x.safetensors",)"
                 R"("a":"y.safetensors"}})",
                 "key \"a\" stands twice"},
        BadIndex{"TensorNotInShard",
                 R"({"weight_map":{"a":"part.safetensors"}})",
                 "part.safetensors: tensor \"a\" is not in it"}),
    [](const ::testing::TestParamInfo<BadIndex>& row) {
      return std::string(row.param.name);
    });

TEST(CheckpointIdentityTest, FollowsTheFilesWithoutBlobs) {
  ScratchFolder scratch;
  const std::string folder = scratch.CopyTestdata("fixtures/mixtral", "model");
  const auto first = Checkpoint::Open(folder);
  const auto again = Checkpoint::Open(folder);
  const std::string config = ReadBytes(folder + "/config.json");
  scratch.Write("model/config.json", config + "\n");
  const auto changed = Checkpoint::Open(folder);
  ASSERT_TRUE(first.ok() && again.ok() && changed.ok());

  EXPECT_THAT((*first)->identity().id, StartsWith("stat:"));
  EXPECT_FALSE((*first)->identity().is_content_hash);
  EXPECT_EQ((*first)->identity().id, (*again)->identity().id);
  EXPECT_NE((*first)->identity().id, (*changed)->identity().id);
}

// A Hugging Face cache entry with the files of fixtures/mixtral; its weights
// are a blob called `blob`.
std::string MakeSnapshot(const ScratchFolder& scratch, const std::string& repo,
                         const std::string& blob) {
  const std::string source = Testdata("fixtures/mixtral");
  scratch.Write(repo + "/blobs/c0ffee", ReadBytes(source + "/config.json"));
  scratch.Write(repo + "/blobs/" + blob,
                ReadBytes(source + "/model.safetensors"));
  const std::string snapshot = scratch / (repo + "/snapshots/r");
  fs::create_directories(snapshot);
  fs::create_symlink("../../blobs/c0ffee", snapshot + "/config.json");
  fs::create_symlink("../../blobs/" + blob, snapshot + "/model.safetensors");
  return snapshot;
}

TEST(CheckpointIdentityTest, IsTheContentHashInAHuggingFaceCache) {
  ScratchFolder scratch;
  const auto one =
      Checkpoint::Open(MakeSnapshot(scratch, "models--a", Sha256Hex("x")));
  const auto same =
      Checkpoint::Open(MakeSnapshot(scratch, "models--b", Sha256Hex("x")));
  const auto other =
      Checkpoint::Open(MakeSnapshot(scratch, "models--c", Sha256Hex("y")));
  ASSERT_TRUE(one.ok() && same.ok() && other.ok());

  EXPECT_TRUE((*one)->identity().is_content_hash);
  EXPECT_THAT((*one)->identity().id, StartsWith("content:"));
  EXPECT_EQ((*one)->identity().id, (*same)->identity().id);
  EXPECT_NE((*one)->identity().id, (*other)->identity().id);
}

TEST(CheckpointIdentityTest, AGitHashIsNoContentHash) {
  ScratchFolder scratch;
  const auto checkpoint = Checkpoint::Open(
      MakeSnapshot(scratch, "models--a", std::string(40, 'a')));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  EXPECT_FALSE((*checkpoint)->identity().is_content_hash);
}

}  // namespace
}  // namespace moescope::model
