#include "src/eval/task_file.h"

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::eval {
namespace {

using nlohmann::json;

constexpr const char* kForm =
    R"(write one object a line: {"pairs": [["context", " continuation"], ...], "gold": 0})";

/// One line of a task file, for messages.
struct Line {
  const std::string& file;
  std::int64_t number = 0;
};

[[noreturn]] void refuse(const Line& line, std::string what) {
  throw DataError(
      {.what = std::move(what), .where = concat(line.file, ", line ", line.number), .fix = kForm});
}

json parse_line(std::string_view text, const Line& line) {
  try {
    json object = json::parse(text);
    if (object.is_object()) return object;
    refuse(line, concat("found a JSON ", object.type_name(), ", expected an object"));
  } catch (const json::parse_error& error) {
    refuse(line, concat("found no JSON, expected one object: ", error.what()));
  }
}

const json& field(const json& object, const char* name, const Line& line) {
  const auto found = object.find(name);
  if (found == object.end()) refuse(line, concat("the object has no field \"", name, "\""));
  return *found;
}

Choice parse_choice(const json& pair, std::size_t index, const Line& line) {
  const bool two_texts =
      pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string();
  if (!two_texts) {
    refuse(line, concat("pair ", index, " is ", pair.dump().substr(0, 60),
                        ", expected [\"context\", \" continuation\"]"));
  }
  Choice choice{.context = pair[0], .continuation = pair[1]};
  if (choice.continuation.empty() || choice.continuation == " ") {
    refuse(line, concat("the continuation of pair ", index, " is empty, expected some text"));
  }
  return choice;
}

Document parse_document(const json& object, const Line& line) {
  const json& pairs = field(object, "pairs", line);
  if (!pairs.is_array() || pairs.empty()) {
    refuse(line, concat("\"pairs\" is ", pairs.dump().substr(0, 60), ", expected a list of pairs"));
  }
  Document document;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    document.choices.push_back(parse_choice(pairs[i], i, line));
  }
  const json& gold = field(object, "gold", line);
  if (!gold.is_number_integer() || gold < 0 || gold >= pairs.size()) {
    refuse(line, concat("\"gold\" is ", gold.dump(), ", expected an integer from 0 to ",
                        pairs.size() - 1));
  }
  document.gold = gold.get<std::size_t>();
  const auto id = object.find("id");
  document.id = id == object.end() ? concat(line.number) : id->dump();
  return document;
}

}  // namespace

Task parse_task(std::string_view text, const std::string& name, const std::string& where,
                std::int64_t limit) {
  Task task{.name = name, .documents = {}};
  Line line{.file = where};
  while (!text.empty() && (limit == 0 || std::ssize(task.documents) < limit)) {
    ++line.number;
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    Document document = parse_document(parse_line(one, line), line);
    if (!task.documents.empty() && task.continues() != (document.choices.size() == 1)) {
      refuse(line, concat("the document has ", document.choices.size(), " pairs and the first has ",
                          task.documents.front().choices.size(),
                          ", expected one pair in all documents or several in all"));
    }
    task.documents.push_back(std::move(document));
  }
  if (task.documents.empty()) {
    throw DataError({.what = "the file holds no document", .where = where, .fix = kForm});
  }
  return task;
}

}  // namespace lrq::eval
