// The use cases over the bundled trained models, without RPC.
#include "moescope/service/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"

#include "moescope/base/error.h"
#include "moescope/jobs/sqlite_job_store.h"
#include "tests/testing/scratch_folder.h"

namespace moescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::StartsWith;

constexpr absl::string_view kPrompt = "As an open source alternative to";

class ServiceTest : public ::testing::Test {
 protected:
  ServiceTest() { Start(); }

  // Starts the service, as a new process over the same data folder would.
  void Start(int threads = 2) {
    service_.reset();
    ServiceOptions options;
    options.model_root = MOESCOPE_SOURCE_DIR "/tests/testdata/models";
    options.data_dir = folder_.path();
    options.device = "cpu";
    options.threads = threads;
    options.max_tokens = 50'000;
    options.version = "test";
    auto service = Service::Create(options, Clock::Real(), metrics_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
  }

  static AnalysisRequest Trace(absl::string_view text = kPrompt) {
    spec::RoutingTraceSpec spec;
    spec.model = "tiny-mixtral";
    AnalysisRequest request;
    request.client = "test";
    request.spec = spec;
    spec::Document document;
    document.text = std::string(text);
    request.input.documents.push_back(document);
    return request;
  }

  static AnalysisRequest Activations(std::int64_t tokens) {
    spec::ActivationStatisticsSpec spec;
    spec.model = "tiny-mixtral";
    spec.block_tokens = 256;
    for (std::int64_t i = 0; i < tokens; ++i) {
      spec.input.ids.push_back(static_cast<std::int32_t>(3 + (i * 37) % 2000));
    }
    spec.input.lengths.assign(static_cast<std::size_t>(tokens / 128), 128);
    AnalysisRequest request;
    request.client = "test";
    request.spec = spec;
    return request;
  }

  static ModelJobRequest ModelJob(const std::string& model) {
    ModelJobRequest request;
    request.model = model;
    request.client = "test";
    return request;
  }

  // All arrays of a stream, chunk after chunk, as one text of bytes.
  static std::string ReadAll(ResultStream& stream) {
    std::string bytes;
    const RunContext context;
    for (;;) {
      auto chunk = stream.Next(context);
      EXPECT_TRUE(chunk.ok()) << chunk.status();
      if (!chunk.ok() || !chunk->has_value()) {
        return bytes;
      }
      for (const spec::Array& array : (*chunk)->arrays) {
        absl::StrAppend(&bytes, array.name, "\n", array.bytes);
      }
    }
  }

  JobRecord WaitUntilFinished(const std::string& id) {
    const RunContext context;
    std::int64_t sequence = 0;
    JobRecord job;
    for (int i = 0; i < 1000; ++i) {
      auto next =
          service_->WatchJob(id, sequence, absl::Seconds(5), context);
      EXPECT_TRUE(next.ok()) << next.status();
      job = *next;
      sequence = job.sequence;
      if (IsFinished(job.state)) {
        break;
      }
    }
    return job;
  }

  const ScratchFolder folder_;
  Metrics metrics_;
  std::unique_ptr<Service> service_;
};

TEST_F(ServiceTest, ListsTheModelsUnderTheRoot) {
  const auto names = service_->ListModelNames();
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_THAT(*names,
              ElementsAre("tiny-deepseek", "tiny-mistral", "tiny-mixtral"));
  const auto mixtral = service_->GetModel("tiny-mixtral");
  EXPECT_EQ(mixtral->num_experts, 8);
  EXPECT_EQ(mixtral->experts_per_token, 2);
  EXPECT_EQ(mixtral->state, "UNLOADED");
}

TEST_F(ServiceTest, AModelThatHasGoneIsLeftOutOfADescription) {
  const auto models =
      service_->DescribeModels({"tiny-mixtral", "gone", "tiny-deepseek"});

  ASSERT_TRUE(models.ok()) << models.status();
  ASSERT_EQ(models->size(), 2U);
  EXPECT_EQ((*models)[0].name, "tiny-mixtral");
  EXPECT_EQ((*models)[1].num_experts, 32);
}

TEST_F(ServiceTest, ATraceIsComputedOnceAndThenComesFromTheCache) {
  auto first = service_->Run(Trace());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_FALSE((*first)->cached());
  const std::string bytes = ReadAll(**first);
  EXPECT_THAT(bytes, HasSubstr("layer.5.topk_ids"));

  auto second = service_->Run(Trace());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE((*second)->cached());
  EXPECT_EQ(ReadAll(**second), bytes);
  EXPECT_EQ(service_->GetCacheStats().misses, 1);
}

TEST_F(ServiceTest, ATraceSaysHowTheRoutersChoose) {
  auto trace = service_->Run(Trace());
  ASSERT_TRUE(trace.ok()) << trace.status();
  ReadAll(**trace);

  const auto result = (*trace)->Info();

  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->provenance.routing, "softmax over 8, top-2, renormalised");
}

TEST_F(ServiceTest, AnAnswerOutlivesTheProcess) {
  const auto first = service_->Run(Trace());
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string bytes = ReadAll(**first);

  Start(/*threads=*/1);

  const auto second = service_->Run(Trace());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE((*second)->cached());
  EXPECT_EQ(ReadAll(**second), bytes);
}

TEST_F(ServiceTest, ThreadsDoNotChangeTheBytes) {
  Start(/*threads=*/1);
  auto one = service_->Run(Activations(1024));
  ASSERT_TRUE(one.ok()) << one.status();
  const std::string bytes = ReadAll(**one);
  Start(/*threads=*/3);
  AnalysisRequest again = Activations(1024);
  again.cache_policy = CachePolicy::kBypass;
  auto three = service_->Run(again);
  ASSERT_TRUE(three.ok()) << three.status();
  EXPECT_FALSE((*three)->cached());
  EXPECT_EQ(ReadAll(**three), bytes);
}

TEST_F(ServiceTest, AJobThatIsCutShortGoesOnAfterARestart) {
  const auto whole = service_->Submit(Activations(4096));
  ASSERT_TRUE(whole.ok()) << whole.status();
  const JobRecord undisturbed = WaitUntilFinished(whole->job.id);
  ASSERT_EQ(undisturbed.state, JobState::kSucceeded) << undisturbed.error;
  const std::string digest =
      service_->GetResult(undisturbed.result_key)->digest;

  AnalysisRequest request = Activations(4096);
  request.cache_policy = CachePolicy::kRefresh;
  const auto cut = service_->Submit(request);
  ASSERT_TRUE(cut.ok()) << cut.status();
  Start();  // The old workers are cut at once, with the work under way.
  const JobRecord resumed = WaitUntilFinished(cut->job.id);

  EXPECT_EQ(resumed.state, JobState::kSucceeded) << resumed.error;
  EXPECT_EQ(service_->GetResult(resumed.result_key)->digest, digest);
}

TEST_F(ServiceTest, WorkOfALostProcessIsCountedOnceAsRecovered) {
  service_.reset();
  {
    SqliteJobStoreOptions options;
    options.path = folder_ / "jobs.sqlite";
    const auto store = OpenSqliteJobStore(std::move(options));
    ASSERT_TRUE(store.ok()) << store.status();
    SubmitRequest submit;
    submit.analysis = "load_model";
    submit.analysis_version = 1;
    submit.spec = "tiny-mixtral";
    submit.lane = "io";
    ASSERT_TRUE((*store)->Submit(submit, absl::Now()).ok());
    ClaimRequest claim;
    claim.owner = "lost";
    claim.lanes = {"io"};
    claim.lease_until = absl::Now() + absl::Minutes(1);
    ASSERT_TRUE((*store)->Claim(claim, absl::Now())->has_value());
  }

  Start();

  EXPECT_THAT(metrics_.Serialize(),
              HasSubstr("moescope_jobs_recovered_total 1\n"));
}

TEST_F(ServiceTest, NothingIsLeftOfAFinishedRunButItsResult) {
  const auto submitted = service_->Submit(Activations(4096));
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  const JobRecord job = WaitUntilFinished(submitted->job.id);
  ASSERT_EQ(job.state, JobState::kSucceeded) << job.error;

  // States of blocks are removed right after the end is recorded.
  const std::string running = folder_ / "results/running";
  const absl::Time bound = absl::Now() + absl::Seconds(30);
  while (!std::filesystem::is_empty(running) && absl::Now() < bound) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_TRUE(std::filesystem::is_empty(running));
  EXPECT_FALSE(std::filesystem::is_empty(folder_ / "results/sealed"));
}

TEST_F(ServiceTest, ACancelledJobEndsCancelled) {
  const auto submitted = service_->Submit(Activations(32'768));
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  ASSERT_TRUE(service_->CancelJob(submitted->job.id).ok());
  const JobRecord job = WaitUntilFinished(submitted->job.id);
  EXPECT_EQ(job.state, JobState::kCancelled);
}

TEST_F(ServiceTest, OneJobsCancelDoesNotHurtAnother) {
  const auto a = service_->Submit(Activations(8192));
  const auto b = service_->Submit(Activations(8192));
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->job.execution_id, b->job.execution_id);
  ASSERT_TRUE(service_->CancelJob(a->job.id).ok());
  EXPECT_EQ(WaitUntilFinished(b->job.id).state, JobState::kSucceeded);
}

TEST_F(ServiceTest, BadInputIsRefusedWithCodeAndField) {
  AnalysisRequest unknown = Trace();
  std::get<spec::RoutingTraceSpec>(unknown.spec).model = "no-such-model";
  EXPECT_EQ(service_->Run(unknown).status().code(),
            absl::StatusCode::kNotFound);

  AnalysisRequest outside = Trace();
  std::get<spec::RoutingTraceSpec>(outside.spec).model = "../x";
  EXPECT_EQ(service_->Run(outside).status().code(),
            absl::StatusCode::kInvalidArgument);

  AnalysisRequest layer = Trace();
  std::get<spec::RoutingTraceSpec>(layer.spec).layers = {48};
  const absl::Status status = service_->Run(layer).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(GetErrorDetails(status).fields[0].field, "spec.layers");

  const absl::Status empty = service_->Run(Trace("")).status();
  EXPECT_EQ(empty.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetErrorDetails(empty).fields[0].field, "input.documents[0].text");

  const absl::Status large = service_->Submit(Activations(64'000)).status();
  EXPECT_EQ(large.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetErrorDetails(large).metadata.at("limit"), "50000");
}

TEST_F(ServiceTest, TheSameRequestIdIsTheSameJob) {
  AnalysisRequest request = Activations(1024);
  request.request_id = "once";
  const auto first = service_->Submit(request);
  const auto second = service_->Submit(request);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->job.id, second->job.id);
  AnalysisRequest other = Activations(2048);
  other.request_id = "once";
  const absl::Status reused = service_->Submit(other).status();
  EXPECT_EQ(reused.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(GetErrorDetails(reused).reason, "REQUEST_ID_REUSED");
}

TEST_F(ServiceTest, LoadingAModelIsAJob) {
  const auto job = service_->LoadModel(ModelJob("tiny-deepseek"));
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->lane, "io");
  EXPECT_EQ(WaitUntilFinished(job->id).state, JobState::kSucceeded);
  EXPECT_EQ(service_->GetModel("tiny-deepseek")->state, "READY");
  // The weights alone, not the workspace that is reserved beside them.
  const EstimateView estimate = *service_->EstimateModel("tiny-deepseek");
  const std::int64_t resident =
      service_->GetModel("tiny-deepseek")->resident_bytes;
  EXPECT_GE(resident, estimate.weight_bytes);
  EXPECT_LT(resident, estimate.weight_bytes + estimate.workspace_bytes);
  EXPECT_TRUE(service_->UnloadModel("tiny-deepseek").ok());
  EXPECT_EQ(service_->GetModel("tiny-deepseek")->state, "UNLOADED");
}

TEST_F(ServiceTest, ASecondServerMayNotShareTheDataFolder) {
  ServiceOptions options;
  options.model_root = MOESCOPE_SOURCE_DIR "/tests/testdata/models";
  options.data_dir = folder_.path();
  options.device = "cpu";
  const auto second = Service::Create(options, Clock::Real(), metrics_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetails(second.status()).reason, "DATA_DIR_IN_USE");
}

TEST_F(ServiceTest, AFolderThatCannotBeUsedIsNamedByItsOptionAndPath) {
  const std::string models = MOESCOPE_SOURCE_DIR "/tests/testdata/models";
  const std::string file = folder_ / "file";
  std::ofstream(file) << "neither a folder nor a database";
  const std::string damaged = folder_ / "damaged";
  std::filesystem::create_directory(damaged);
  std::filesystem::copy(file, damaged + "/jobs.sqlite");
  const auto refused = [this](const std::string& model_root,
                              const std::string& data_dir) {
    ServiceOptions options;
    options.model_root = model_root;
    options.data_dir = data_dir;
    options.device = "cpu";
    const absl::Status status =
        Service::Create(options, Clock::Real(), metrics_).status();
    EXPECT_EQ(GetErrorDetails(status).reason, "FOLDER_NOT_USABLE") << status;
    return std::string(status.message());
  };

  EXPECT_THAT(refused(folder_ / "absent", folder_ / "new"),
              StartsWith("model_root: \"" + folder_ / "absent" + "\": "));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "new"));
  EXPECT_THAT(refused(file, folder_ / "new"),
              StartsWith("model_root: \"" + file + "\": "));
  EXPECT_EQ(refused(models, file),
            "data_dir: \"" + file + "\": Not a directory");
  EXPECT_EQ(refused(models, file + "/below"),
            "data_dir: \"" + file + "/below\": Not a directory");
  EXPECT_THAT(refused(models, damaged),
              StartsWith("data_dir: \"" + damaged + "\": "));
}

TEST_F(ServiceTest, TellsWhatItIs) {
  auto info = service_->GetServerInfo();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->limits.at("max_tokens"), 50'000);
  EXPECT_GT(info->gemm_gflops, 0.0);
  ASSERT_EQ(info->devices.size(), 1U);
  EXPECT_GT(info->devices[0].total_bytes, 0);
  EXPECT_GT(info->devices[0].free_bytes, 0);
  EXPECT_LE(info->devices[0].free_bytes, info->devices[0].total_bytes);
  EXPECT_EQ(info->versions["moescope"], "test");
  EXPECT_NE(info->versions["absl"], "");
  EXPECT_NE(info->versions["torch"], "");
  EXPECT_EQ(info->num_models, 3);
  EXPECT_EQ(info->limits.at("max_attempts"), 5);
  EXPECT_EQ(info->limits.at("lost_caller_grace_seconds"), 30);
  EXPECT_EQ(info->limits.at("max_queued_seconds"), 48 * 3600);
  EXPECT_THAT(info->features,
              IsSupersetOf({"activation_statistics", "expert_similarity",
                            "jobs", "routing_trace"}));
  EXPECT_TRUE(std::is_sorted(info->features.begin(), info->features.end()));
}

}  // namespace
}  // namespace moescope
