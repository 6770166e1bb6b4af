#include "tests/eval/zero_shot_reference.h"

#include <map>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "dist/self_transport.h"
#include "io/file_system.h"
#include "src/eval/requests.h"

namespace lrq::eval {
namespace {

std::string read(const std::string& path) { return io::make_posix_file_system()->read(path); }

/// Keep the documents that the reference has, in its order, which is the file's.
Task known_to(Task task, const nlohmann::json& cases) {
  std::map<std::string, bool> known;
  for (const auto& one : cases) known[one.at("id").dump()] = true;
  std::erase_if(task.documents, [&](const Document& document) { return !known[document.id]; });
  return task;
}

}  // namespace

Task shipped_task(const std::string& name) {
  const std::string path = std::string(LRQ_TEST_DATA "/zero-shot/") + name + ".jsonl";
  return parse_task(read(path), name, path, 0);
}

std::vector<Score> scores_of(const Task& task, const std::filesystem::path& folder) {
  at::set_num_threads(1);  // as the program does: tiny products are slower on more
  dist::SelfTransport alone;
  const pipeline::ModelSource model(folder);
  const auto tokenizer = io::open_tokenizer(folder);
  const auto requests =
      make_requests(*tokenizer, task, Tokenize::kTogether, model.config().max_position_embeddings);
  return Evaluator(alone, {.model = model}).score(make_passages(requests));
}

void expect_scores_of_reference(const std::filesystem::path& model, const std::string& reference,
                                std::size_t documents) {
  const auto file = nlohmann::json::parse(read(LRQ_TEST_DATA "/reference/" + reference));
  for (const auto& [name, expected] : file.at("tasks").items()) {
    nlohmann::json cases = expected.at("cases");
    while (cases.size() > documents) cases.erase(cases.size() - 1);
    ASSERT_FALSE(cases.empty()) << name;
    const Task task = known_to(shipped_task(name), cases);
    ASSERT_EQ(task.documents.size(), cases.size()) << name;
    const auto scores = scores_of(task, model);
    std::size_t next = 0;
    for (const auto& one : cases) {
      for (std::size_t pair = 0; pair < one.at("loglik").size(); ++pair, ++next) {
        ASSERT_LT(next, scores.size());
        const Score& score = scores[next];
        const auto where = name + " " + one.at("id").dump() + ", pair " + std::to_string(pair);
        EXPECT_NEAR(score.log_likelihood, one.at("loglik")[pair].get<double>(), 1e-3) << where;
        EXPECT_EQ(score.greedy, one.at("greedy")[pair].get<bool>()) << where;
        EXPECT_EQ(score.tokens, one.at("tokens")[pair].get<std::int64_t>()) << where;
      }
    }
  }
  EXPECT_EQ(file.at("tasks").size(), 9U);
}

}  // namespace lrq::eval
