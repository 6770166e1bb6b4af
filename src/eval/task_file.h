#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lrq::eval {

/// A text to be scored as the continuation of another one.
struct Choice {
  std::string context;
  std::string continuation;  ///< begins with its space
};

/// One question of a task.
struct Document {
  std::string id;  ///< "id" as it stands in the file, as JSON; the line's number if it has none
  std::vector<Choice> choices;
  std::size_t gold = 0;  ///< the right choice
};

/// The documents of one task.  One choice each: a text to be continued (LAMBADA); several: a
/// multiple choice, whose documents may differ in how many.
struct Task {
  std::string name;
  std::vector<Document> documents;
  /// True if every document is a text to be continued.
  [[nodiscard]] bool continues() const { return documents.front().choices.size() == 1; }
};

/// Read a task, one JSON object a line:
///   {"pairs": [["context", " continuation"], ...], "gold": 0, "id": 17}
/// "id" may be left out, other fields and blank lines are passed over.  where: the path, for
/// messages.  limit: read only so many documents (0: all).
/// Throws DataError with file and line: no JSON, a field missing or of the wrong type, no pairs, an
/// empty continuation, a gold that names no pair, one pair among several; or no document at all.
[[nodiscard]] Task parse_task(std::string_view text, const std::string& name,
                              const std::string& where, std::int64_t limit);

}  // namespace lrq::eval
