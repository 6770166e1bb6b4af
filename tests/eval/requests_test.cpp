#include "src/eval/requests.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "src/base/error.h"

namespace lrq::eval {
namespace {

using Ids = std::vector<std::int32_t>;

/// One id a byte, but "ab" is one token, 1000; BOS 1 in front if it is to have one.
class Letters : public io::Tokenizer {
 public:
  explicit Letters(std::optional<std::int32_t> bos) : bos_(bos) {}
  [[nodiscard]] Ids encode(std::string_view text, AddSpecial add_special) const override {
    Ids ids;
    if (bos_ && add_special == AddSpecial::kYes) ids.push_back(*bos_);
    for (std::size_t i = 0; i < text.size(); ++i) {
      const bool pair = text.substr(i, 2) == "ab";
      ids.push_back(pair ? 1000 : text[i]);
      if (pair) ++i;
    }
    return ids;
  }
  [[nodiscard]] std::string decode(const Ids& /*ids*/) const override { return ""; }
  [[nodiscard]] std::int64_t vocab_size() const override { return 1001; }
  [[nodiscard]] std::optional<std::int32_t> bos() const override { return bos_; }

 private:
  std::optional<std::int32_t> bos_;
};

TEST(RequestsTest, TogetherIsOneTextBehindTheBos) {
  const Letters tokenizer(1);
  const Request request = make_request(tokenizer, {"xa", "bc"}, Tokenize::kTogether, 100);
  EXPECT_EQ(request.ids, (Ids{1, 'x', 1000, 'c'}));
  EXPECT_EQ(request.targets, 1) << "what follows the 3 ids of the context";
  EXPECT_FALSE(request.truncated);
}

TEST(RequestsTest, SeparateHasNoBosAndTokensDoNotReachAcross) {
  const Letters tokenizer(1);
  const Request request = make_request(tokenizer, {"xa", "bc"}, Tokenize::kSeparate, 100);
  EXPECT_EQ(request.ids, (Ids{'x', 'a', 'b', 'c'}));
  EXPECT_EQ(request.targets, 2);
}

TEST(RequestsTest, TooLongAContextLosesItsLeftEnd) {
  const Letters tokenizer(1);
  // The model sees all ids but the last: 4 of them fit.
  const Request whole = make_request(tokenizer, {"xyz", "c"}, Tokenize::kTogether, 4);
  EXPECT_FALSE(whole.truncated);
  const Request cut = make_request(tokenizer, {"wxyz", " c"}, Tokenize::kTogether, 4);
  EXPECT_EQ(cut.ids, (Ids{'x', 'y', 'z', ' ', 'c'}));
  EXPECT_EQ(cut.targets, 2);
  EXPECT_TRUE(cut.truncated);
  EXPECT_EQ(make_passages({cut}).front().input, (Ids{'x', 'y', 'z', ' '}));
}

TEST(RequestsTest, WhatCannotBeScoredIsRefused) {
  const Letters bos(1);
  const Letters none(std::nullopt);
  EXPECT_THROW((void)make_request(bos, {"x", "abcde"}, Tokenize::kTogether, 3), DataError);
  EXPECT_THROW((void)make_request(bos, {"xa", "b"}, Tokenize::kTogether, 9), DataError);
  EXPECT_THROW((void)make_request(none, {"", "c"}, Tokenize::kTogether, 9), DataError);
  EXPECT_THROW((void)make_request(bos, {"", "c"}, Tokenize::kSeparate, 9), DataError);
  EXPECT_EQ(make_request(bos, {"", "c"}, Tokenize::kTogether, 9).ids, (Ids{1, 'c'}));
  const Task task{"mine", {{"7", {{"x", "c"}, {"xa", "b"}}, 0}}};
  try {
    (void)make_requests(bos, task, Tokenize::kTogether, 9);
    ADD_FAILURE() << "accepted";
  } catch (const DataError& error) {
    EXPECT_EQ(error.text().where, "task mine, document 7, pair 1");
  }
}

TEST(RequestsTest, ChoicesOfOneTokenShareAPassage) {
  const std::vector<Request> requests = {{.ids = {1, 5, 6}, .targets = 1},
                                         {.ids = {1, 5, 7}, .targets = 1},
                                         {.ids = {1, 5, 8}, .targets = 2},
                                         {.ids = {1, 6, 8}, .targets = 2}};
  const auto passages = make_passages(requests);
  ASSERT_EQ(passages.size(), 3U);
  EXPECT_EQ(passages[0].input, (Ids{1, 5}));
  EXPECT_EQ(passages[0].targets, (std::vector<Ids>{{6}, {7}}));
  EXPECT_EQ(passages[1].input, (Ids{1, 5}));
  EXPECT_EQ(passages[1].targets, (std::vector<Ids>{{5, 8}}));
  EXPECT_EQ(passages[2].targets, (std::vector<Ids>{{6, 8}}));
}

TEST(PackContextsTest, TakesEachContextOnceAndNoContinuation) {
  const std::vector<Request> requests = {{.ids = {1, 2, 3, 90}, .targets = 1},
                                         {.ids = {1, 2, 3, 91, 92}, .targets = 2},
                                         {.ids = {4, 5, 93}, .targets = 1},
                                         {.ids = {6, 7, 8, 94}, .targets = 1}};
  // 1 2 3 4 5 6 7 8 in threes; the last two are dropped.
  const at::Tensor packed = pack_contexts(requests, 3);
  EXPECT_TRUE(at::equal(packed, at::tensor({1, 2, 3, 4, 5, 6}, at::kInt).view({2, 3})));
  EXPECT_EQ(pack_contexts(requests, 100).sizes(), at::IntArrayRef({1, 8})) << "one shorter window";
  EXPECT_EQ(pack_contexts({}, 3).size(0), 0);
}

}  // namespace
}  // namespace lrq::eval
