// The identity of weights: tree hashes, and the store that remembers them.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include "absl/strings/str_cat.h"

#include "moescope/base/error.h"
#include "moescope/base/sha256.h"
#include "moescope/model/identity_store.h"
#include "moescope/model/tree_hash.h"
#include "tests/model/safetensors_bytes.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/scratch_folder.h"

namespace moescope::model {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using CheckpointPtr = std::shared_ptr<const Checkpoint>;

TEST(TreeHasherTest, GoldenRootsOfSmallFiles) {
  TreeHasher hasher(std::vector<std::int64_t>{3, 0});
  ASSERT_TRUE(hasher.AddLeaf({0, 0}, "abc").ok());

  const auto roots = hasher.Roots();

  // printf 'moescope tree 1\n3\n%s\n' $(printf abc | sha256sum) | sha256sum
  ASSERT_TRUE(roots.ok()) << roots.status();
  EXPECT_THAT(
      *roots,
      ElementsAre(
          "49f4c4f6f98e9ca3741c5dc485bcdab899d8374e58edd3800533c705535a83b2",
          "97ad754001fe8385ed314eb84169e43e9631950f461c25b5c0b96b98b501ab98"));
}

TEST(TreeHasherTest, OrderOfLeavesDoesNotMatter) {
  const std::string bytes(kHashLeafBytes + 5, 'z');
  const absl::string_view view = bytes;
  const std::vector<std::int64_t> sizes = {kHashLeafBytes + 5};
  TreeHasher forward(sizes);
  ASSERT_TRUE(forward.AddLeaf({0, 0}, view.substr(0, kHashLeafBytes)).ok());
  ASSERT_TRUE(forward.AddLeaf({0, 1}, view.substr(kHashLeafBytes)).ok());
  TreeHasher backward(sizes);
  ASSERT_TRUE(backward.AddLeaf({0, 1}, view.substr(kHashLeafBytes)).ok());
  ASSERT_TRUE(backward.AddLeaf({0, 0}, view.substr(0, kHashLeafBytes)).ok());

  EXPECT_EQ(*forward.Roots(), *backward.Roots());
  EXPECT_THAT(
      *forward.Roots(),
      ElementsAre("a737b287bbb6ab32ade7b2333b816f97557bbc2032c74895e6c4b44fff1d1fbc"));
}

TEST(TreeHasherTest, RefusesWhatIsNoLeaf) {
  TreeHasher hasher(std::vector<std::int64_t>{3});
  EXPECT_EQ(hasher.AddLeaf({0, 0}, "ab").code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(hasher.AddLeaf({0, 1}, "abc").code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(hasher.AddLeaf({1, 0}, "abc").code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(hasher.MissingLeaves().size(), 1U);
  EXPECT_EQ(hasher.Roots().status().code(),
            absl::StatusCode::kFailedPrecondition);
}

class IdentityStoreTest : public ::testing::Test {
 protected:
  IdentityStoreTest()
      : folder_(scratch_.CopyTestdata("models/tiny-mistral", "model")),
        shard_(folder_ + "/model.safetensors"),
        store_(OpenStore()) {}

  std::unique_ptr<IdentityStore> OpenStore() const {
    auto store = IdentityStore::Open(scratch_ / "identities", clock_);
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  // Changes the last byte, or changes it back, and leaves size and time.
  void FlipLastByteUnseen() const {
    const fs::file_time_type time = fs::last_write_time(shard_);
    std::string bytes = ReadBytes(shard_);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    std::ofstream(shard_, std::ios::binary) << bytes;
    fs::last_write_time(shard_, time);
  }
  static CheckpointPtr Open(const std::string& folder) {
    auto checkpoint = Checkpoint::Open(folder);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    return *checkpoint;
  }
  // Reads and files the checkpoint; its identity then.
  absl::StatusOr<ModelIdentity> Hash(const Checkpoint& checkpoint) {
    TreeHasher hasher(checkpoint);
    ThreadPool pool(2);
    const absl::Status hashed =
        HashMissingLeaves(checkpoint, hasher, pool, RunContext());
    if (!hashed.ok()) {
      return hashed;
    }
    return store_->Record(checkpoint, hasher);
  }

  const ScratchFolder scratch_;
  FakeClock clock_;
  const std::string folder_;
  const std::string shard_;
  std::unique_ptr<IdentityStore> store_;
};

TEST_F(IdentityStoreTest, StatStandsInUntilTheContentIsKnown) {
  const CheckpointPtr checkpoint = Open(folder_);
  const ModelIdentity before = store_->Identify(*checkpoint);
  const auto recorded = Hash(*checkpoint);

  EXPECT_THAT(before.id, StartsWith("stat:"));
  ASSERT_TRUE(recorded.ok()) << recorded.status();
  EXPECT_THAT(recorded->id, StartsWith("content:"));
  EXPECT_TRUE(recorded->is_content_hash);
  EXPECT_EQ(store_->Identify(*checkpoint).id, recorded->id);
}

TEST_F(IdentityStoreTest, IsMadeOfConfigAndTreeHashes) {
  const CheckpointPtr checkpoint = Open(folder_);
  const std::string shard = ReadBytes(shard_);
  const std::string root = Sha256Hex(
      absl::StrCat("moescope tree 1\n", shard.size(), "\n", Sha256Hex(shard),
                   "\n"));
  const std::string text =
      absl::StrCat("config ", Sha256Hex(ReadBytes(folder_ + "/config.json")),
                   "\ntree ", root, " model.safetensors\n");

  ASSERT_LT(static_cast<std::int64_t>(shard.size()), kHashLeafBytes);
  EXPECT_EQ(Hash(*checkpoint)->id, absl::StrCat("content:", Sha256Hex(text)));
}

TEST_F(IdentityStoreTest, ALaterProcessKnowsItToo) {
  const std::string id = Hash(*Open(folder_))->id;

  store_ = OpenStore();

  EXPECT_EQ(store_->Identify(*Open(folder_)).id, id);
}

TEST_F(IdentityStoreTest, AMovedOrTouchedFolderHasTheSameContent) {
  const std::string id = Hash(*Open(folder_))->id;
  fs::rename(folder_, scratch_ / "moved");
  fs::last_write_time(scratch_ / "moved/model.safetensors",
                      fs::file_time_type::clock::now());
  const CheckpointPtr moved = Open(scratch_ / "moved");

  EXPECT_THAT(store_->Identify(*moved).id, StartsWith("stat:"));
  EXPECT_EQ(Hash(*moved)->id, id);
}

TEST_F(IdentityStoreTest, AChangedFileHasAnotherIdentity) {
  const std::string id = Hash(*Open(folder_))->id;
  std::fstream file(shard_, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file.put('\x7f');
  file.close();
  const CheckpointPtr changed = Open(folder_);

  EXPECT_THAT(store_->Identify(*changed).id, StartsWith("stat:"));
  const auto other = Hash(*changed);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_NE(other->id, id);
}

TEST_F(IdentityStoreTest, AChangedConfigHasAnotherIdentity) {
  const std::string id = Hash(*Open(folder_))->id;
  std::ofstream(folder_ + "/config.json", std::ios::app) << "\n";

  const ModelIdentity changed = store_->Identify(*Open(folder_));

  EXPECT_TRUE(changed.is_content_hash);  // The weights need not be read again.
  EXPECT_NE(changed.id, id);
}

TEST_F(IdentityStoreTest, FilesNothingWhenAFileChangesMeanwhile) {
  const CheckpointPtr checkpoint = Open(folder_);
  fs::resize_file(shard_, 10'000);

  const auto refused = Hash(*checkpoint);

  EXPECT_EQ(refused.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(GetErrorDetails(refused.status()).reason, "FILE_CHANGED");
  EXPECT_THAT(std::string(refused.status().message()),
              StartsWith("model.safetensors: "));
  EXPECT_THAT(store_->Identify(*checkpoint).id, StartsWith("stat:"));
}

TEST_F(IdentityStoreTest, ADamagedFileIsPutAsideAndMadeAnew) {
  const CheckpointPtr checkpoint = Open(folder_);
  const std::string id = Hash(*checkpoint)->id;
  std::string text = ReadBytes(scratch_ / "identities");
  text[30] = text[30] == '0' ? '1' : '0';
  scratch_.Write("identities", text);

  store_ = OpenStore();

  EXPECT_THAT(store_->Identify(*checkpoint).id, StartsWith("stat:"));
  EXPECT_TRUE(fs::exists(scratch_ / "identities.damaged"));
  EXPECT_EQ(Hash(*checkpoint)->id, id);
}

TEST_F(IdentityStoreTest, ACancelledPassHashesNoMore) {
  const CheckpointPtr checkpoint = Open(folder_);
  TreeHasher hasher(*checkpoint);
  ThreadPool pool(1);
  const RunContext context;
  context.token().Cancel(absl::CancelledError("asked"));

  EXPECT_EQ(
      HashMissingLeaves(*checkpoint, hasher, pool, context).code(),
      absl::StatusCode::kCancelled);
  EXPECT_FALSE(hasher.MissingLeaves().empty());
}

TEST_F(IdentityStoreTest, WhatAnotherPassHashedIsNotReadAgain) {
  const CheckpointPtr checkpoint = Open(folder_);
  TreeHasher hasher(*checkpoint);
  ASSERT_TRUE(
      hasher.AddLeaf({0, 0}, checkpoint->weight_files()[0]->bytes()).ok());
  ThreadPool pool(1);
  RunContext context;
  int reports = 0;
  context.set_progress_function([&](const Progress&) { ++reports; });

  EXPECT_TRUE(HashMissingLeaves(*checkpoint, hasher, pool, context).ok());
  EXPECT_EQ(reports, 0);
  EXPECT_TRUE(store_->Record(*checkpoint, hasher).ok());
}

TEST_F(IdentityStoreTest, VerifyingFindsWhatTheModificationTimeHides) {
  ASSERT_TRUE(Hash(*Open(folder_)).ok());
  const std::string filed = ReadBytes(scratch_ / "identities");
  ThreadPool pool(2);
  const absl::Status same =
      VerifyWeights(*Open(folder_), *store_, pool, RunContext());
  FlipLastByteUnseen();

  const absl::Status changed =
      VerifyWeights(*Open(folder_), *store_, pool, RunContext());
  const absl::Status again =
      VerifyWeights(*Open(folder_), *store_, pool, RunContext());

  EXPECT_TRUE(same.ok()) << same;
  EXPECT_EQ(changed.code(), absl::StatusCode::kDataLoss);
  const ErrorDetails details = GetErrorDetails(changed);
  EXPECT_EQ(details.reason, "CONTENT_CHANGED");
  EXPECT_EQ(details.metadata.at("file"), "model.safetensors");
  EXPECT_NE(details.metadata.at("expected"), details.metadata.at("found"));
  EXPECT_THAT(std::string(changed.message()),
              HasSubstr("filed on 2023-11-14 22:13:20 UTC"));
  EXPECT_EQ(again, changed);
  EXPECT_EQ(ReadBytes(scratch_ / "identities"), filed);
}

TEST_F(IdentityStoreTest, DamageIsKnownUntilTheFileIsWrittenOrTouched) {
  ASSERT_TRUE(Hash(*Open(folder_)).ok());
  EXPECT_EQ(store_->CheckUndamaged(*Open(folder_)), absl::OkStatus());
  FlipLastByteUnseen();
  EXPECT_EQ(store_->CheckUndamaged(*Open(folder_)), absl::OkStatus());
  const absl::Status found = Hash(*Open(folder_)).status();

  EXPECT_EQ(GetErrorDetails(found).reason, "CONTENT_CHANGED");
  EXPECT_EQ(store_->CheckUndamaged(*Open(folder_)), found);
  FlipLastByteUnseen();
  EXPECT_EQ(store_->CheckUndamaged(*Open(folder_)), absl::OkStatus());

  FlipLastByteUnseen();
  EXPECT_FALSE(Hash(*Open(folder_)).ok());
  EXPECT_FALSE(store_->CheckUndamaged(*Open(folder_)).ok());
  fs::last_write_time(shard_, fs::file_time_type::clock::now());
  EXPECT_EQ(store_->CheckUndamaged(*Open(folder_)), absl::OkStatus());
}

TEST_F(IdentityStoreTest, AReadingThatFindsAFileSoundEndsItsDamage) {
  const CheckpointPtr checkpoint = Open(folder_);
  store_->SetVerdict(*checkpoint->weight_files()[0],
                     absl::DataLossError("damaged"));
  EXPECT_FALSE(store_->CheckUndamaged(*checkpoint).ok());

  EXPECT_TRUE(Hash(*checkpoint).ok());

  EXPECT_EQ(store_->CheckUndamaged(*checkpoint), absl::OkStatus());
}

TEST_F(IdentityStoreTest, NoOtherPassFilesHiddenChangesEither) {
  ASSERT_TRUE(Hash(*Open(folder_)).ok());
  FlipLastByteUnseen();
  const CheckpointPtr changed = Open(folder_);

  EXPECT_EQ(GetErrorDetails(Hash(*changed).status()).reason, "CONTENT_CHANGED");
  EXPECT_THAT(store_->Identify(*changed).id, StartsWith("stat:"));
}

TEST_F(IdentityStoreTest, ARestoredFileIsWhatItWas) {
  const std::string id = Hash(*Open(folder_))->id;
  FlipLastByteUnseen();
  FlipLastByteUnseen();
  ThreadPool pool(2);

  EXPECT_TRUE(VerifyWeights(*Open(folder_), *store_, pool, RunContext()).ok());
  EXPECT_EQ(store_->Identify(*Open(folder_)).id, id);
}

TEST_F(IdentityStoreTest, ATouchedFileIsTakenAsItIsNow) {
  const std::string id = Hash(*Open(folder_))->id;
  FlipLastByteUnseen();
  fs::last_write_time(shard_, fs::file_time_type::clock::now());
  clock_.Advance(absl::Seconds(5));
  const CheckpointPtr touched = Open(folder_);
  ThreadPool pool(2);

  EXPECT_TRUE(VerifyWeights(*touched, *store_, pool, RunContext()).ok());
  EXPECT_NE(store_->Identify(*touched).id, id);
  EXPECT_EQ(store_->FiledTime(*touched), clock_.Now());
}

TEST_F(IdentityStoreTest, TheTimeOfAContentIsWhenItWasFirstFiled) {
  const absl::Time first = clock_.Now();
  EXPECT_EQ(store_->FiledTime(*Open(folder_)), std::nullopt);
  ASSERT_TRUE(Hash(*Open(folder_)).ok());
  clock_.Advance(absl::Seconds(5));
  fs::last_write_time(shard_, fs::file_time_type::clock::now());
  ThreadPool pool(2);
  ASSERT_TRUE(VerifyWeights(*Open(folder_), *store_, pool, RunContext()).ok());

  EXPECT_EQ(store_->FiledTime(*Open(folder_)), first);
  store_ = OpenStore();
  EXPECT_EQ(store_->FiledTime(*Open(folder_)), first);
}

TEST_F(IdentityStoreTest, AFileOfTheFirstFormatCountsAsOldAsItIs) {
  const std::string id = Hash(*Open(folder_))->id;
  const std::string text = ReadBytes(scratch_ / "identities");
  const std::string time =
      absl::StrCat("\t", absl::ToUnixMicros(clock_.Now()));
  std::string body = text.substr(0, text.size() - 65);
  body.replace(body.find(time), time.size(), "");
  body.replace(body.find("identities 2"), 12, "identities 1");
  scratch_.Write("identities", absl::StrCat(body, Sha256Hex(body), "\n"));
  fs::last_write_time(scratch_ / "identities", fs::last_write_time(shard_));

  store_ = OpenStore();

  EXPECT_EQ(store_->Identify(*Open(folder_)).id, id);
  const std::int64_t mtime_ns =
      Open(folder_)->weight_files()[0]->stamp().mtime_ns;
  EXPECT_EQ(store_->FiledTime(*Open(folder_)),
            absl::FromUnixMicros(mtime_ns / 1000));
}

TEST_F(IdentityStoreTest, VerifyingHoldsABlobAgainstItsName) {
  const std::string good = Sha256Hex(ReadBytes(shard_));
  fs::create_directories(scratch_ / "blobs");
  fs::rename(shard_, scratch_ / ("blobs/" + good));
  fs::create_symlink(scratch_ / ("blobs/" + good), shard_);
  ThreadPool pool(2);
  const CheckpointPtr checkpoint = Open(folder_);
  ASSERT_TRUE(checkpoint->identity().is_content_hash);
  const absl::Status same =
      VerifyWeights(*checkpoint, *store_, pool, RunContext());
  const std::string bad(64, '0');
  fs::rename(scratch_ / ("blobs/" + good), scratch_ / ("blobs/" + bad));
  fs::remove(shard_);
  fs::create_symlink(scratch_ / ("blobs/" + bad), shard_);

  const absl::Status changed =
      VerifyWeights(*Open(folder_), *store_, pool, RunContext());

  EXPECT_TRUE(same.ok()) << same;
  EXPECT_EQ(changed.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(changed.message()),
              HasSubstr(absl::StrCat(good, ", expected ", bad)));
}

}  // namespace
}  // namespace moescope::model
