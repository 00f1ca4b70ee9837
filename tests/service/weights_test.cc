// What becomes of answers and jobs when the files of a model move, change or are
// cut short, and what clients are told of failures.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "moescope/base/error.h"
#include "moescope/service/service.h"
#include "tests/testing/scratch_folder.h"

namespace moescope {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr absl::Duration kBound = absl::Seconds(60);

class WeightsTest : public ::testing::Test {
 protected:
  WeightsTest()
      : models_(folder_ / "models"), data_(folder_ / "data") {
    fs::create_directories(models_);
    AddModel("fixtures/mixtral", "m");
    Start();
  }

  void AddModel(const std::string& source, const std::string& name) const {
    folder_.CopyTestdata(source, "models/" + name);
  }

  void Start() {
    service_.reset();
    ServiceOptions options;
    options.model_root = models_;
    options.data_dir = data_;
    options.device = "cpu";
    options.threads = 2;
    options.workers = 1;
    auto service = Service::Create(options, Clock::Real(), metrics_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
  }

  void StartWithBudget(std::int64_t bytes) {
    service_.reset();
    ServiceOptions options;
    options.model_root = models_;
    options.data_dir = data_;
    options.device = "cpu";
    options.threads = 2;
    options.memory_budget_bytes = bytes;
    auto service = Service::Create(options, Clock::Real(), metrics_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
  }

  static AnalysisRequest Similarity(const std::string& model = "m") {
    spec::ExpertSimilaritySpec spec;
    spec.model = model;
    AnalysisRequest request;
    request.client = "test";
    request.spec = spec;
    return request;
  }
  static AnalysisRequest Trace(const std::string& model = "m") {
    spec::RoutingTraceSpec spec;
    spec.model = model;
    spec.input.ids = {1, 2, 3, 4, 5};
    spec.input.lengths = {5};
    AnalysisRequest request;
    request.client = "test";
    request.spec = spec;
    return request;
  }
  // Long enough to be met at work.
  static AnalysisRequest LongWork(std::int64_t seed = 0) {
    constexpr std::int64_t kTokens = 1 << 19;
    spec::ActivationStatisticsSpec spec;
    spec.model = "m";
    spec.block_tokens = 64;
    for (std::int64_t i = 0; i < kTokens; ++i) {
      spec.input.ids.push_back(static_cast<std::int32_t>((seed + i * 7) % 60));
    }
    spec.input.lengths.assign(static_cast<std::size_t>(kTokens / 16), 16);
    AnalysisRequest request;
    request.client = "test";
    request.spec = spec;
    request.priority = Priority::kBatch;
    return request;
  }
  static ModelJobRequest ModelJob(const std::string& model) {
    ModelJobRequest request;
    request.model = model;
    request.client = "test";
    return request;
  }

  struct Answer {
    absl::Status status;
    bool cached = false;
    std::string bytes;
  };
  Answer Ask(const AnalysisRequest& request) {
    Answer answer;
    auto stream = service_->Run(request);
    answer.status = stream.status();
    while (answer.status.ok()) {
      auto chunk = (*stream)->Next(RunContext());
      answer.status = chunk.status();
      if (!chunk.ok() || !chunk->has_value()) {
        answer.cached = (*stream)->cached();
        break;
      }
      for (const spec::Array& array : (*chunk)->arrays) {
        absl::StrAppend(&answer.bytes, array.name, "\n", array.bytes);
      }
    }
    return answer;
  }
  // The job as soon as `wanted` holds of it.
  template <class Wanted>
  JobRecord WaitUntil(const std::string& id, Wanted wanted) {
    const absl::Time end = absl::Now() + kBound;
    std::int64_t sequence = 0;
    JobRecord job;
    while (absl::Now() < end) {
      const auto next = service_->WatchJob(id, sequence, absl::Seconds(1), {});
      EXPECT_TRUE(next.ok()) << next.status();
      job = next.value_or(JobRecord());
      sequence = job.sequence;
      if (wanted(job)) {
        return job;
      }
    }
    ADD_FAILURE() << "job " << id << " is still " << JobStateName(job.state);
    return job;
  }
  JobRecord Ended(const std::string& id) {
    return WaitUntil(
        id, [](const JobRecord& job) { return IsFinished(job.state); });
  }
  // Until nothing uses the model any more.
  void AwaitIdle(const std::string& model) {
    for (int i = 0; i < 60000 && service_->GetModel(model)->pins > 0; ++i) {
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  JobRecord AtWork(const std::string& id) {
    return WaitUntil(id, [](const JobRecord& job) {
      return job.state == JobState::kRunning && job.progress.done > 0 &&
             job.progress.unit == "tokens";  // Not loading any more.
    });
  }
  JobRecord Load(const std::string& model) {
    const auto job = service_->LoadModel(ModelJob(model));
    EXPECT_TRUE(job.ok()) << job.status();
    return Ended(job.value_or(JobRecord()).id);
  }
  JobRecord Verify(const std::string& model) {
    const auto job = service_->VerifyModel(ModelJob(model));
    EXPECT_TRUE(job.ok()) << job.status();
    return Ended(job.value_or(JobRecord()).id);
  }
  // Size and modification time stay.
  void FlipLastByteUnseen(const std::string& model) const {
    const std::string shard = models_ + "/" + model + "/model.safetensors";
    const fs::file_time_type time = fs::last_write_time(shard);
    std::fstream bytes(shard, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekg(-1, std::ios::end);
    const auto last = static_cast<char>(bytes.get() ^ 1);
    bytes.seekp(-1, std::ios::end);
    bytes.put(last);
    bytes.close();
    fs::last_write_time(shard, time);
  }
  std::string IdentityOf(const std::string& model) {
    return service_->GetModel(model).value_or(ModelView()).identity;
  }

  const ScratchFolder folder_;
  const std::string models_;
  const std::string data_;
  Metrics metrics_;
  std::unique_ptr<Service> service_;
};

TEST_F(WeightsTest, ALoadMakesTheContentKnownForLaterProcesses) {
  EXPECT_THAT(IdentityOf("m"), StartsWith("stat:"));
  EXPECT_EQ(Load("m").state, JobState::kSucceeded);
  const std::string identity = IdentityOf("m");

  Start();

  EXPECT_THAT(identity, StartsWith("content:"));
  EXPECT_EQ(IdentityOf("m"), identity);
}

TEST_F(WeightsTest, VerifyingIsAJobThatMakesTheContentKnown) {
  const auto job = service_->VerifyModel(ModelJob("m"));
  ASSERT_TRUE(job.ok()) << job.status();

  EXPECT_EQ(job->lane, "verify");  // No load waits for it.
  EXPECT_EQ(Ended(job->id).state, JobState::kSucceeded);
  EXPECT_THAT(IdentityOf("m"), StartsWith("content:"));
}

TEST_F(WeightsTest, WhatIsKnownToBeDamagedIsNotAnalysed) {
  ASSERT_EQ(Verify("m").state, JobState::kSucceeded);
  FlipLastByteUnseen("m");
  const absl::Status found = Verify("m").error;

  EXPECT_EQ(GetErrorDetails(found).reason, "CONTENT_CHANGED");
  const absl::Status refused = Ask(Similarity()).status;
  EXPECT_EQ(refused.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(GetErrorDetails(refused).reason, "CONTENT_CHANGED");
  EXPECT_THAT(std::string(refused.message()),
              StartsWith("model \"m\": model.safetensors: hash "));
  EXPECT_EQ(Ask(Trace()).status, refused);
  EXPECT_EQ(Load("m").error, found);
  EXPECT_EQ(service_->GetModel("m")->load_error, found);
  const auto listed = service_->DescribeModels({"m"});
  ASSERT_TRUE(listed.ok()) << listed.status();
  EXPECT_EQ(listed->at(0).load_error, found);
}

TEST_F(WeightsTest, WhatWasRestoredOrTouchedIsAnalysedAgain) {
  ASSERT_EQ(Verify("m").state, JobState::kSucceeded);
  FlipLastByteUnseen("m");
  EXPECT_EQ(Verify("m").state, JobState::kFailed);

  FlipLastByteUnseen("m");
  EXPECT_EQ(Ask(Similarity()).status, absl::OkStatus());
  EXPECT_EQ(service_->GetModel("m")->load_error, absl::OkStatus());

  FlipLastByteUnseen("m");
  EXPECT_EQ(Verify("m").state, JobState::kFailed);
  fs::last_write_time(models_ + "/m/model.safetensors",
                      fs::file_time_type::clock::now());
  EXPECT_EQ(Ask(Similarity()).status, absl::OkStatus());
  EXPECT_EQ(Ask(Trace()).status, absl::OkStatus());
}

TEST_F(WeightsTest, TheStaticSuiteMakesTheContentKnownInItsOneReading) {
  spec::StaticSuiteSpec suite;
  suite.model = "m";
  AnalysisRequest request;
  request.client = "test";
  request.spec = suite;

  const Answer first = Ask(request);

  ASSERT_TRUE(first.status.ok()) << first.status;
  EXPECT_THAT(IdentityOf("m"), StartsWith("content:"));
  EXPECT_TRUE(Ask(request).cached);
}

TEST_F(WeightsTest, AnswersAreFoundAfterTheFolderWasMovedAndTouched) {
  const Answer first = Ask(Trace());  // Loads the model, so its content is known.
  ASSERT_TRUE(first.status.ok()) << first.status;
  fs::rename(models_ + "/m", models_ + "/moved");
  fs::last_write_time(models_ + "/moved/model.safetensors",
                      fs::file_time_type::clock::now());
  ASSERT_EQ(Load("moved").state, JobState::kSucceeded);

  const Answer moved = Ask(Trace("moved"));

  EXPECT_TRUE(moved.cached);
  EXPECT_EQ(moved.bytes, first.bytes);
}

TEST_F(WeightsTest, AnswersFromBeforeTheContentWasKnownAreFoundByIt) {
  const Answer first = Ask(Similarity());
  ASSERT_TRUE(first.status.ok()) << first.status;
  ASSERT_EQ(Load("m").state, JobState::kSucceeded);
  const Answer known = Ask(Similarity());
  fs::rename(models_ + "/m", models_ + "/moved");
  ASSERT_EQ(Load("moved").state, JobState::kSucceeded);

  const Answer moved = Ask(Similarity("moved"));

  EXPECT_FALSE(first.cached);
  EXPECT_TRUE(known.cached);
  EXPECT_TRUE(moved.cached);
  EXPECT_EQ(moved.bytes, first.bytes);
}

TEST_F(WeightsTest, ARepeatedRequestIsOneAlsoWhenTheContentBecameKnown) {
  AnalysisRequest request = Similarity();
  request.request_id = "once";
  const auto first = service_->Submit(request);
  ASSERT_TRUE(first.ok()) << first.status();
  Ended(first->job.id);
  ASSERT_EQ(Load("m").state, JobState::kSucceeded);

  const auto again = service_->Submit(request);

  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->job.id, first->job.id);
}

TEST_F(WeightsTest, NothingIsFiledUnderTheKeyOfFilesThatHaveChanged) {
  const auto busy = service_->Submit(LongWork());
  ASSERT_TRUE(busy.ok()) << busy.status();
  AtWork(busy->job.id);
  const auto waiting = service_->Submit(Similarity());  // One worker: it waits.
  ASSERT_TRUE(waiting.ok()) << waiting.status();
  fs::remove_all(models_ + "/m");
  AddModel("fixtures/mixtral_bf16", "m");

  ASSERT_TRUE(service_->CancelJob(busy->job.id).ok());

  const JobRecord job = Ended(waiting->job.id);
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(job.error.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetails(job.error).reason, "MODEL_CHANGED");
  EXPECT_EQ(GetErrorDetails(job.error).fields.at(0).field, "spec.model");
}

TEST_F(WeightsTest, AShardCutShortAtWorkIsDataLossAndTheServerGoesOn) {
  AddModel("fixtures/mixtral_bf16", "other");
  const auto submitted = service_->Submit(LongWork());
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  AtWork(submitted->job.id);

  fs::resize_file(models_ + "/m/model.safetensors", 4096);

  const JobRecord job = Ended(submitted->job.id);
  EXPECT_EQ(job.state, JobState::kFailed);
  EXPECT_EQ(job.error.code(), absl::StatusCode::kDataLoss) << job.error;
  EXPECT_EQ(GetErrorDetails(job.error).reason, "FILE_CHANGED");
  EXPECT_EQ(GetErrorDetails(job.error).metadata.at("file"),
            "model.safetensors");
  EXPECT_THAT(std::string(job.error.message()),
              StartsWith("model \"m\": model.safetensors: "));
  EXPECT_TRUE(Ask(Similarity("other")).status.ok());
  EXPECT_EQ(Ask(Similarity("m")).status.code(), absl::StatusCode::kDataLoss);
}

TEST_F(WeightsTest, QueuedWorkHasAPlaceAndATime) {
  const auto busy = service_->Submit(LongWork(0));
  ASSERT_TRUE(busy.ok()) << busy.status();
  AtWork(busy->job.id);
  const auto first = service_->Submit(LongWork(1));
  const auto second = service_->Submit(LongWork(2));
  ASSERT_TRUE(first.ok() && second.ok());

  const auto places = service_->GetQueuePlaces();

  ASSERT_TRUE(places.ok()) << places.status();
  ASSERT_EQ(places->size(), 2U);
  const QueuePlace& next = places->at(first->job.execution_id);
  const QueuePlace& last = places->at(second->job.execution_id);
  EXPECT_EQ(next.position, 0);
  EXPECT_EQ(last.position, 1);
  EXPECT_GE(next.eta_seconds, first->job.estimated_seconds);
  EXPECT_GT(last.eta_seconds, next.eta_seconds);
}

TEST_F(WeightsTest, WhatDoesNotFitIsRefusedBeforeAJobIsMade) {
  StartWithBudget(1000);

  const absl::Status refused = service_->LoadModel(ModelJob("m")).status();

  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetails(refused).reason, "MODEL_TOO_LARGE");
  EXPECT_EQ(GetErrorDetails(refused).metadata.at("budget_bytes"), "1000");
  EXPECT_TRUE(service_->ListJobs({}, 10, "")->jobs.empty());
}

TEST_F(WeightsTest, AnAnalysisThatNeverFitsIsRefusedBeforeAJobIsMade) {
  StartWithBudget(1000);

  const absl::Status weights = service_->Submit(Similarity()).status();
  const absl::Status forward = service_->Submit(Trace()).status();

  EXPECT_EQ(weights.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetErrorDetails(weights).reason, "WORKSPACE_TOO_LARGE");
  EXPECT_EQ(GetErrorDetails(weights).metadata.at("budget_bytes"), "1000");
  EXPECT_EQ(forward.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrorDetails(forward).reason, "MODEL_TOO_LARGE");
  EXPECT_TRUE(service_->ListJobs({}, 10, "")->jobs.empty());
}

TEST_F(WeightsTest, TheEstimatedMemoryFollowsTheTokensOfABlock) {
  AnalysisRequest asked = LongWork();
  auto& spec = std::get<spec::ActivationStatisticsSpec>(asked.spec);
  spec.block_tokens = 64;
  const auto small = service_->Prepare(asked);
  spec.block_tokens = 65536;
  const auto large = service_->Prepare(asked);
  ASSERT_TRUE(small.ok() && large.ok());
  const std::int64_t needed = service_->EstimateCost(*large).memory_bytes;

  EXPECT_GT(needed, 20 * service_->EstimateCost(*small).memory_bytes);

  // Room for the one, not for the other.
  StartWithBudget(needed);
  EXPECT_EQ(GetErrorDetails(service_->Submit(asked).status()).reason,
            "MODEL_TOO_LARGE");
  spec.block_tokens = 64;
  EXPECT_TRUE(service_->Submit(asked).ok());
}

TEST_F(WeightsTest, WorkspaceIsReservedWhileAnAnalysisRuns) {
  const auto submitted = service_->Submit(LongWork());
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  AtWork(submitted->job.id);

  service_->PublishMetrics();
  const std::string at_work = metrics_.Serialize();
  ASSERT_TRUE(service_->CancelJob(submitted->job.id).ok());
  AwaitIdle("m");
  service_->PublishMetrics();

  EXPECT_THAT(at_work,
              HasSubstr(absl::StrCat(
                  "moescope_model_resident_bytes{device=\"cpu\",kind="
                  "\"workspace\"} ",
                  submitted->cost.memory_bytes, "\n")));
  EXPECT_THAT(metrics_.Serialize(),
              HasSubstr("moescope_model_resident_bytes{device=\"cpu\",kind="
                        "\"workspace\"} 0\n"));
}

TEST_F(WeightsTest, EvictedAnswersAreSaidToBeGone) {
  const auto submitted = service_->Submit(Similarity());
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  const JobRecord job = Ended(submitted->job.id);
  fs::remove(data_ + "/results/sealed/" + job.result_key + ".log");
  const auto stream = service_->ReadResult(job.result_key, 0);
  EXPECT_EQ(stream.status().code(), absl::StatusCode::kNotFound);

  EXPECT_EQ(service_->GetJob(job.id)->state, JobState::kExpired);
  const auto again = service_->ReadJobResult(job.id, 0);
  ASSERT_TRUE(again.ok()) << again.status();
  const absl::Status gone = (*again)->Next(RunContext()).status();
  EXPECT_EQ(gone.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(GetErrorDetails(gone).reason, "RESULT_NOT_FOUND");
}

TEST_F(WeightsTest, FirstChunkBeyondTheResultIsNamed) {
  const auto submitted = service_->Submit(Similarity());
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  const std::string result = Ended(submitted->job.id).result_key;

  const absl::Status status = service_->ReadResult(result, 999).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(GetErrorDetails(status).fields.at(0).field, "first_chunk");
}

// Errors as clients see them, a line each.
class ClientErrorsTest : public WeightsTest {
 protected:
  void Write(const std::string& path, const std::string& bytes) const {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
  }
  void Note(const absl::Status& status) {
    absl::StrAppend(&seen_, status.ToString(), "\n");
    EXPECT_FALSE(status.ok());
  }
  void ExpectNoPaths() const {
    EXPECT_THAT(seen_, Not(HasSubstr(folder_.path())));
    EXPECT_THAT(seen_, Not(HasSubstr(::testing::TempDir())));
  }

  std::string seen_;
};

TEST_F(ClientErrorsTest, OfBadModelsHoldNoServerPath) {
  AddModel("fixtures/mixtral", "no_config");
  fs::remove(models_ + "/no_config/config.json");
  AddModel("fixtures/mixtral", "bad_config");
  Write(models_ + "/bad_config/config.json", "{");
  AddModel("fixtures/mixtral", "cut");
  fs::resize_file(models_ + "/cut/model.safetensors", 5000);
  AddModel("fixtures/mixtral", "no_weights");
  fs::remove(models_ + "/no_weights/model.safetensors");
  AddModel("fixtures/mixtral", "bad_index");
  fs::remove(models_ + "/bad_index/model.safetensors");
  Write(models_ + "/bad_index/model.safetensors.index.json",
        R"({"weight_map": {"x": "absent.safetensors"}})");
  AddModel("fixtures/mixtral", "folder_for_shard");
  fs::remove(models_ + "/folder_for_shard/model.safetensors");
  fs::create_directory(models_ + "/folder_for_shard/model.safetensors");

  const auto listed = service_->DescribeModels({"no_config"});
  ASSERT_TRUE(listed.ok()) << listed.status();
  ASSERT_EQ(listed->size(), 1U);
  EXPECT_EQ(listed->at(0).checkpoint_status,
            service_->GetModel("no_config").status());
  Note(listed->at(0).checkpoint_status);
  Note(Ask(Similarity("nobody")).status);
  Note(Ask(Similarity("../x")).status);
  Note(Ask(Similarity("no_config")).status);
  Note(Ask(Similarity("bad_config")).status);
  Note(Ask(Similarity("cut")).status);
  Note(Ask(Similarity("no_weights")).status);
  Note(Ask(Similarity("bad_index")).status);
  Note(Ask(Similarity("folder_for_shard")).status);
  Note(service_->GetResult(std::string(64, 'a')).status());
  Note(service_->GetJob("nobody").status());

  ExpectNoPaths();
}

TEST_F(ClientErrorsTest, OfTokenizersHoldNoServerPath) {
  AddModel("fixtures/mixtral", "broken");
  Write(models_ + "/broken/tokenizer.json", "{");
  fs::remove(models_ + "/m/tokenizer.json");

  Note(service_->Tokenize("m", "text").status());
  Note(service_->Tokenize("broken", "text").status());
  Note(service_->GetModel("m")->tokenizer_status);
  Note(service_->GetModel("broken")->tokenizer_status);

  ExpectNoPaths();
}

TEST_F(ClientErrorsTest, OfTheDataFolderHoldNoServerPath) {
  fs::rename(data_ + "/results/running", data_ + "/results/away");
  Note(Ask(Similarity()).status);  // Its log can't be made.
  fs::create_directories(data_ + "/results/running");
  fs::remove_all(data_ + "/results/sealed");
  Note(Ask(Similarity()).status);  // Its log can't be sealed.
  fs::create_directories(data_ + "/results/sealed");
  const auto submitted = service_->Submit(LongWork());
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  AtWork(submitted->job.id);
  fs::rename(data_ + "/results/running", data_ + "/results/away2");
  Note(Ended(submitted->job.id).error);  // Its state can't be saved.
  // The hashes of the weights can't be filed.
  fs::remove(data_ + "/identities");
  fs::create_directories(data_ + "/identities/x");
  AddModel("fixtures/mixtral_bf16", "other");
  Note(Load("other").error);

  ExpectNoPaths();
}

}  // namespace
}  // namespace moescope
