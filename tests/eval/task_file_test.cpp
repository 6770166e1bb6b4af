#include "src/eval/task_file.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace lrq::eval {
namespace {

constexpr const char* kGood = R"({"id": 7, "pairs": [["Q", " a"], ["Q", " b"]], "gold": 1})";

Task parse(const std::string& text, std::int64_t limit = 0) {
  return parse_task(text, "mine", "mine.jsonl", limit);
}

TEST(TaskFileTest, ReadsOneDocumentALine) {
  const Task task = parse(std::string(kGood) +
                          "\r\n\n{\"pairs\": [[\"\\u00e9\", \" x\"], [\"\", \"y\"]], \"gold\": 0}");
  ASSERT_EQ(task.documents.size(), 2U);
  EXPECT_EQ(task.name, "mine");
  EXPECT_FALSE(task.continues());
  EXPECT_EQ(task.documents[0].id, "7");
  EXPECT_EQ(task.documents[0].gold, 1U);
  EXPECT_EQ(task.documents[0].choices[1].continuation, " b");
  EXPECT_EQ(task.documents[1].id, "3") << "no id: the line";
  EXPECT_EQ(task.documents[1].choices[0].context, "\u00e9");
}

TEST(TaskFileTest, ADocumentWithOnePairIsAContinuation) {
  EXPECT_TRUE(parse(R"({"pairs": [["Q", " a"]], "gold": 0})").continues());
}

TEST(TaskFileTest, TheLimitStopsBeforeLaterLines) {
  EXPECT_EQ(parse(std::string(kGood) + "\nnonsense", 1).documents.size(), 1U);
}

TEST(TaskFileTest, EveryFaultNamesItsFileAndLine) {
  const std::vector<std::pair<const char*, const char*>> faults = {
      {"nonsense", "found no JSON"},
      {R"([1, 2])", "found a JSON array"},
      {R"({"gold": 0})", "no field \"pairs\""},
      {R"({"pairs": [["Q", " a"], ["Q", " b"]]})", "no field \"gold\""},
      {R"({"pairs": [], "gold": 0})", "\"pairs\" is []"},
      {R"({"pairs": "Q", "gold": 0})", "\"pairs\" is \"Q\""},
      {R"({"pairs": [["Q", " a"], ["Q"]], "gold": 0})", "pair 1 is [\"Q\"]"},
      {R"({"pairs": [["Q", " a"], ["Q", 3]], "gold": 0})", "pair 1 is [\"Q\",3]"},
      {R"({"pairs": [["Q", " "], ["Q", " b"]], "gold": 0})", "pair 0 is empty"},
      {R"({"pairs": [["Q", " a"], ["Q", " b"]], "gold": 2})", "\"gold\" is 2"},
      {R"({"pairs": [["Q", " a"], ["Q", " b"]], "gold": -1})", "\"gold\" is -1"},
      {R"({"pairs": [["Q", " a"], ["Q", " b"]], "gold": 1.0})", "\"gold\" is 1.0"},
      {R"({"pairs": [["Q", " a"]], "gold": 0})", "1 pairs and the first has 2"},
      {"{\"pairs\": [[\"\xff\", \" a\"], [\"Q\", \" b\"]], \"gold\": 0}", "UTF-8"},
  };
  for (const auto& [line, told] : faults) {
    try {
      (void)parse(std::string(kGood) + "\n\n" + line + "\n");
      ADD_FAILURE() << "accepted: " << line;
    } catch (const DataError& error) {
      EXPECT_NE(error.text().what.find(told), std::string::npos) << error.text().what;
      EXPECT_EQ(error.text().where, "mine.jsonl, line 3") << line;
      EXPECT_NE(error.text().fix.find("pairs"), std::string::npos);
    }
  }
  EXPECT_THROW((void)parse("\n \n"), DataError);
}

}  // namespace
}  // namespace lrq::eval
