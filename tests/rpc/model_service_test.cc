// ModelService over a model root of its own: pages, and a model without a
// forward pass.

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "moescope/v1/analysis.grpc.pb.h"
#include "moescope/v1/model.grpc.pb.h"

#include "moescope/rpc/rpc_server.h"
#include "tests/rpc/running_server.h"

namespace moescope {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// "strange" has a position encoding that no version of ours knows.
class ModelServiceTest : public RunningServer {
 protected:
  void SetUp() override {
    AddModel("first");
    AddModel("second");
    AddModel("strange");
    const fs::path config = folder_ / "models/strange/config.json";
    std::string text = Read(config);
    text.replace(text.rfind('}'), 1,
                 R"(, "rope_scaling": {"type": "spiral", "factor": 2.0}})");
    std::ofstream(config) << text;

    ServiceOptions options = OneWorker();
    options.model_root = (folder_ / "models").string();
    Start(options, RpcServerOptions());
  }

  void AddModel(const std::string& name) const {
    const fs::path folder = folder_ / "models" / name;
    const fs::path source = MOESCOPE_SOURCE_DIR "/tests/testdata/fixtures/mixtral";
    fs::create_directories(folder);
    fs::copy_file(source / "config.json", folder / "config.json");
    fs::copy_file(source / "model.safetensors", folder / "model.safetensors");
  }

  static std::string Read(const fs::path& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }

  v1::ListModelsResponse List(std::int32_t page_size,
                              const std::string& page_token) {
    v1::ListModelsRequest request;
    request.set_page_size(page_size);
    request.set_page_token(page_token);
    v1::ListModelsResponse response;
    grpc::ClientContext context;
    const grpc::Status status =
        models_->ListModels(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  static std::vector<std::string> NamesOf(
      const v1::ListModelsResponse& response) {
    std::vector<std::string> names;
    for (const v1::Model& model : response.models()) {
      names.push_back(model.name());
    }
    return names;
  }

  v1::Model Get(const std::string& name) {
    v1::GetModelRequest request;
    request.set_model(name);
    v1::GetModelResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(models_->GetModel(&context, request, &response).ok());
    return response.model();
  }
};

TEST_F(ModelServiceTest, PagesOfModelsFollowEachOther) {
  const v1::ListModelsResponse first = List(2, "");
  const v1::ListModelsResponse last = List(2, first.next_page_token());

  EXPECT_THAT(NamesOf(first), ElementsAre("first", "second"));
  EXPECT_THAT(NamesOf(last), ElementsAre("strange"));
  EXPECT_THAT(last.next_page_token(), IsEmpty());
}

TEST_F(ModelServiceTest, OnlyTheModelsOfThePageAreOpened) {
  const v1::ListModelsResponse page = List(1, List(1, "").next_page_token());

  EXPECT_THAT(NamesOf(page), ElementsAre("second"));
  // Weights are mapped as soon as a model is opened, and stay so.
  const std::string maps = Read("/proc/self/maps");
  EXPECT_THAT(maps, HasSubstr("models/first/model.safetensors"));
  EXPECT_THAT(maps, HasSubstr("models/second/model.safetensors"));
  EXPECT_THAT(maps, Not(HasSubstr("models/strange/model.safetensors")));
}

TEST_F(ModelServiceTest, AModelTellsWhetherItHasAForwardPass) {
  const v1::Model usual = Get("first");
  const v1::Model strange = Get("strange");

  EXPECT_TRUE(usual.forward_pass());
  EXPECT_THAT(usual.forward_error(), IsEmpty());
  EXPECT_EQ(strange.state(), v1::MODEL_STATE_AVAILABLE);
  EXPECT_EQ(strange.experts(), 8);
  EXPECT_FALSE(strange.forward_pass());
  EXPECT_THAT(strange.forward_error(), HasSubstr("\"spiral\" is not supported"));
}

TEST_F(ModelServiceTest, TokensAreRefusedWhereThereIsNoForwardPass) {
  v1::TraceRoutingRequest request;
  request.mutable_spec()->set_model("strange");
  request.mutable_input()->add_documents()->mutable_tokens()->add_ids(1);
  v1::TraceRoutingResponse response;
  grpc::ClientContext context;

  const auto reader = analysis_->TraceRouting(&context, request);
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status status = reader->Finish();

  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("spec.model: no forward pass"));
  EXPECT_EQ(ReasonOf(status), "NO_FORWARD_PASS");
}

TEST_F(ModelServiceTest, WeightsAreAnalysedWhereThereIsNoForwardPass) {
  v1::ComputeExpertSimilarityRequest request;
  request.mutable_spec()->set_model("strange");
  request.mutable_spec()->add_levels("router");
  v1::ComputeExpertSimilarityResponse response;
  grpc::ClientContext context;

  const grpc::Status status =
      analysis_->ComputeExpertSimilarity(&context, request, &response);

  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.layers_size(), 2);
}

}  // namespace
}  // namespace moescope
