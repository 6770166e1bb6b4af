#include "io/tokenizer.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <unistd.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Ids = std::vector<std::int32_t>;
using AddSpecial = Tokenizer::AddSpecial;

const fs::path kData = LRQ_TEST_DATA;

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

json read_json(const fs::path& path) { return json::parse(read_text(path)); }

/// A folder of this test's own, removed at its end.
class TokenizerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / concat("lrq-tokenizer-", ::getpid(), "-", info->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }

  std::string complaint() const {
    try {
      (void)open_tokenizer(folder_);
    } catch (const DataError& error) {
      return format_error(error.text(), "test");
    }
    return "no error";
  }

  fs::path folder_;
};

TEST_F(TokenizerTest, SmolLm2GivesTheIdsOfHuggingFace) {
  const auto tokenizer = open_tokenizer(kData / "smollm2-tokenizer");
  EXPECT_EQ(tokenizer->vocab_size(), 49152);
  EXPECT_EQ(tokenizer->bos(), std::nullopt);
  const json golden = read_json(kData / "tokenizers/golden-smollm2.json");
  ASSERT_EQ(golden["cases"].size(), 60U);
  for (const json& one : golden["cases"]) {
    const auto text = one["text"].get<std::string>();
    const Ids ids = tokenizer->encode(text, AddSpecial::kYes);
    EXPECT_EQ(ids, one["ids"].get<Ids>()) << one["category"] << ": " << text;
    EXPECT_EQ(tokenizer->decode(ids), one["decoded_skip_special"].get<std::string>()) << text;
  }
}

TEST_F(TokenizerTest, SmolLm2GivesTheIdsOfHuggingFaceOnWikiText) {
  const auto tokenizer = open_tokenizer(kData / "smollm2-tokenizer");
  const std::string text = read_text(kData / "wikitext-2/excerpt.txt");
  const Ids ids = tokenizer->encode(text, AddSpecial::kYes);
  EXPECT_EQ(ids, read_json(kData / "wikitext-2/excerpt-smollm2.json")["ids"].get<Ids>());
  EXPECT_EQ(Ids(ids.begin(), ids.begin() + 5), (Ids{1116, 446, 12928, 21777, 310}));
  EXPECT_EQ(tokenizer->decode(ids), text);
}

TEST_F(TokenizerTest, Stories260kGivesTheIdsOfHuggingFace) {
  const auto tokenizer = open_tokenizer(kData / "stories260k");
  EXPECT_EQ(tokenizer->vocab_size(), 512);
  EXPECT_EQ(tokenizer->bos(), 1);
  const json golden = read_json(kData / "tokenizers/golden-stories260k.json");  // a loop keeps no temporary
  for (const json& one : golden["cases"]) {
    const auto text = one["text"].get<std::string>();
    const Ids ids = tokenizer->encode(text, AddSpecial::kYes);
    EXPECT_EQ(ids, one["ids"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer->decode(ids), one["decoded"].get<std::string>()) << text;
    EXPECT_EQ(tokenizer->encode(text, AddSpecial::kNo), Ids(ids.begin() + 1, ids.end())) << text;
  }
}

TEST_F(TokenizerTest, Stories260kGivesTheIdsThatTheModelSampled) {
  const auto tokenizer = open_tokenizer(kData / "stories260k");
  std::ifstream lines(kData / "tokenizers/stories260k-eval.jsonl");
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const json one = json::parse(line);
    const auto text = one["text"].get<std::string>();
    EXPECT_EQ(tokenizer->encode(text, AddSpecial::kYes), one["ids"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer->decode(one["ids"].get<Ids>()), text);
  }
  EXPECT_EQ(count, 8);
}

TEST_F(TokenizerTest, TokenizerModelGivesTheIdsThatTheModelSampled) {
  fs::copy(kData / "stories260k/tokenizer.model", folder_);
  const auto by_model = open_tokenizer(folder_);  // without a config: a BOS is put in front
  EXPECT_EQ(by_model->vocab_size(), 512);
  EXPECT_EQ(by_model->bos(), 1);
  std::ifstream lines(kData / "tokenizers/stories260k-eval.jsonl");
  for (std::string line; std::getline(lines, line);) {
    const json one = json::parse(line);
    const auto text = one["text"].get<std::string>();
    EXPECT_EQ(by_model->encode(text, AddSpecial::kYes), one["ids"].get<Ids>()) << text;
    EXPECT_EQ(by_model->decode(one["ids"].get<Ids>()), text);
  }
}

TEST_F(TokenizerTest, ConfigTakesTheBosAwayFromATokenizerModel) {
  fs::copy(kData / "stories260k/tokenizer.model", folder_);
  write("tokenizer_config.json", R"({"add_bos_token": false})");
  EXPECT_EQ(open_tokenizer(folder_)->bos(), std::nullopt);
}

// The model file is under the Llama 2 licence and not shipped; the golden file holds ids only.
TEST_F(TokenizerTest, Llama32kGivesTheIdsOfSentencePiece) {
  const char* model = std::getenv("LRQ_LLAMA_TOKENIZER");
  if (model == nullptr) {
    std::cerr << "skipped: set LRQ_LLAMA_TOKENIZER to the tokenizer.model of Llama 2\n";
    GTEST_SKIP() << "set LRQ_LLAMA_TOKENIZER to the tokenizer.model of Llama 2";
  }
  fs::copy(model, folder_ / "tokenizer.model");
  const auto tokenizer = open_tokenizer(folder_);
  const json golden = read_json(kData / "tokenizers/golden-llama32k.json");  // a loop keeps no temporary
  for (const json& one : golden["cases"]) {
    const auto text = one["text"].get<std::string>();
    const Ids ids = tokenizer->encode(text, AddSpecial::kNo);
    EXPECT_EQ(ids, one["sp_ids"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer->decode(ids), one["sp_decoded"].get<std::string>()) << text;
  }
}

// Every kind of pre-tokenizer, normalizer and added token that is read, on random texts.
TEST_F(TokenizerTest, VariantsGiveTheIdsOfHuggingFace) {
  const json variants = read_json(kData / "tokenizers/golden-variants.json");
  for (const json& variant : variants["variants"]) {
    json file = read_json(kData / variant["base"].get<std::string>());
    file.merge_patch(variant["patch"]);
    write("tokenizer.json", file.dump());
    const auto tokenizer = open_tokenizer(folder_);
    const json& texts = variants["texts"];
    ASSERT_EQ(texts.size(), variant["ids"].size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const auto text = texts[i].get<std::string>();
      EXPECT_EQ(tokenizer->encode(text, AddSpecial::kYes), variant["ids"][i].get<Ids>())
          << variant["name"] << ": " << texts[i];
    }
  }
}

TEST_F(TokenizerTest, ALongTextWithoutCutsTakesLittleTime) {
  std::string text = read_text(kData / "wikitext-2/excerpt.txt");
  while (text.size() < 200'000) text += text;
  const auto start = std::chrono::steady_clock::now();
  const Ids ids = open_tokenizer(kData / "stories260k")->encode(text, AddSpecial::kYes);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_GT(ids.size(), text.size() / 4);
  EXPECT_LT(seconds.count(), 20.0);  // one piece: a quadratic loop would take minutes
}

TEST_F(TokenizerTest, TextThatIsNotUtf8IsRefusedWithItsPlace) {
  const auto tokenizer = open_tokenizer(kData / "stories260k");
  try {
    (void)tokenizer->encode("ab\xff", AddSpecial::kYes);
    FAIL() << "accepted";
  } catch (const DataError& error) {
    EXPECT_NE(error.text().what.find("not UTF-8 at byte 2 of 3"), std::string::npos);
  }
}

TEST_F(TokenizerTest, UnknownKindsAreRefusedByName) {
  EXPECT_NE(complaint().find("neither tokenizer.json nor tokenizer.model"), std::string::npos);
  write("tokenizer.json", "{");
  EXPECT_NE(complaint().find("file is not JSON"), std::string::npos);
  const auto with = [&](const std::string& patch) {
    json file = read_json(kData / "stories260k/tokenizer.json");
    file.merge_patch(json::parse(patch));
    write("tokenizer.json", file.dump());
    return complaint();
  };
  EXPECT_NE(with(R"({"model":{"type":"Unigram"}})").find("model is Unigram"), std::string::npos);
  EXPECT_NE(with(R"({"normalizer":{"type":"NFKC","normalizers":null}})").find("normalizer is NFKC"),
            std::string::npos);
  EXPECT_NE(
      with(R"({"pre_tokenizer":{"type":"Punctuation"}})").find("pre_tokenizer is Punctuation"),
      std::string::npos);
  EXPECT_NE(with(R"({"post_processor":{"type":"BertProcessing"}})").find("is BertProcessing"),
            std::string::npos);
  EXPECT_NE(with(R"({"model":{"dropout":0.5}})").find("at random"), std::string::npos);
  EXPECT_NE(with(R"({"model":{"merges":["a"]}})").find("not two tokens"), std::string::npos);
  EXPECT_NE(with(R"({"model":{"merges":["a zzzz"]}})").find("that the vocabulary has not"),
            std::string::npos);
  EXPECT_NE(with(R"({"model":{"vocab":{"a":-1}}})").find("token id is -1"), std::string::npos);
  EXPECT_NE(
      with(R"({"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"}})")
          .find("pattern is not understood at character 1"),
      std::string::npos);
}

TEST_F(TokenizerTest, AnUnknownKindGivesWayToATokenizerModel) {
  fs::copy(kData / "stories260k/tokenizer.model", folder_);
  write("tokenizer.json", R"({"model":{"type":"Unigram","vocab":[]}})");
  EXPECT_EQ(open_tokenizer(folder_)->vocab_size(), 512);
}

// libsentencepiece's global variables once were constructed over LibTorch's.
TEST(SentencePieceTest, LeavesLibTorchAsItIs) {
  (void)open_tokenizer(kData / "stories260k");
  const auto too_large = [] {
    (void)at::empty({std::int64_t{1} << 52}, at::device(at::kCPU).dtype(at::kByte));
  };
  EXPECT_THROW(too_large(), c10::Error);  // it ended the process
}

}  // namespace
}  // namespace lrq::io
