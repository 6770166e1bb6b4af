#include "src/report/metrics.h"

#include <cmath>
#include <string>

#include <nlohmann/json.hpp>

#include "src/pipeline/resident_blocks.h"

namespace lrq::report {
namespace {

using nlohmann::json;

constexpr int kMostRanks = 1 << 20;

/// A number, or kUnknown for null, which stands for one that is not finite.
double number(const json& line, const char* key) {
  const auto found = line.find(key);
  return found == line.end() || found->is_null() ? kUnknown : found->get<double>();
}

/// A whole number within [least, most].  Throws json::exception otherwise, as get() does.
std::int64_t whole(const json& line, const char* key, std::int64_t least, std::int64_t most) {
  const json& value = line.at(key);
  const auto found = value.get<std::int64_t>();
  if (!value.is_number_integer() || found < least || found > most) {
    throw json::other_error::create(0, "out of range", &line);
  }
  return found;
}

/// Seconds or bytes, by stage or rank.
std::vector<double> amounts(const json& line, const char* key) {
  auto list = line.at(key).get<std::vector<double>>();
  for (const double amount : list) {
    if (amount < 0.0) throw json::other_error::create(0, "a negative amount", &line);
  }
  return list;
}

class Reader {
 public:
  explicit Reader(int blocks) : blocks_(blocks) {}

  void read(std::string_view text) {
    const json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
    try {
      const auto event = line.at("event").get<std::string>();
      if (event == "epoch") {
        epoch(line);
      } else if (event == "frozen") {
        frozen(line);
      } else if (event == "waited") {
        waited(line);
      } else if (event == "call") {
        call(line);
      } else {
        ++found_.left_out;
      }
    } catch (const json::exception&) {  // not JSON, or other fields than ours
      ++found_.left_out;
    }
  }

  [[nodiscard]] Metrics take() { return std::move(found_); }

 private:
  [[nodiscard]] int block_of(const json& line) const {
    return static_cast<int>(whole(line, "block", 0, blocks_ - 1));
  }
  [[nodiscard]] int wave_of(const json& line) const {
    return static_cast<int>(whole(line, "wave", 0, blocks_ - 1));
  }

  void epoch(const json& line) {
    const EpochRecord record{.wave = wave_of(line),
                             .loss = number(line, "loss"),
                             .mse = number(line, "mse"),
                             .nlc = number(line, "nlc"),
                             .masked = line.value("masked", std::int64_t{0}),
                             .stopped = line.value("stopped", false),
                             .seconds = number(line, "seconds"),
                             .tokens_per_second = number(line, "tokens_per_second"),
                             .steps = line.value("steps", std::int64_t{0})};
    const std::int64_t epoch = whole(line, "epoch", 1, std::numeric_limits<int>::max());
    const int block = block_of(line);
    found_.epochs[block][epoch] = record;
    found_.newest_epoch = {block, epoch};
  }

  void frozen(const json& line) {
    const FrozenRecord record{.mse = number(line, "mse_median"),
                              .nlc = number(line, "nlc_median"),
                              .nlc_mean = number(line, "nlc"),
                              .start_mse = number(line, "start_mse_median"),
                              .start_nlc = number(line, "start_nlc_median"),
                              .worse = line.value("worse_than_start", false)};
    const int block = block_of(line);
    found_.frozen[block] = record;
    found_.newest_frozen = block;
  }

  void waited(const json& line) {
    const std::int64_t steps =
        whole(line, "steps", 1, std::numeric_limits<std::int64_t>::max() - 1);
    const WaveRecord record{
        .ranks = static_cast<int>(whole(line, "ranks", 1, kMostRanks)),
        .replicas = static_cast<int>(whole(line, "replicas", 1, kMostRanks)),
        .first_step = whole(line, "first_step", 0, steps - 1),
        .steps = steps,
        .cut_every = whole(line, "cut_every", 0, std::numeric_limits<std::int64_t>::max()),
        .turn = whole(line, "turn", 1, pipeline::kTurnOfResidentBlock),
        .seconds = line.at("seconds").get<double>(),
        .waited = amounts(line, "waited_seconds"),
        .cuts = amounts(line, "cut_seconds")};
    const std::size_t stages = record.waited.size();
    if (stages == 0 || record.cuts.size() != stages || !(record.seconds > 0.0) ||
        stages * static_cast<std::size_t>(record.replicas) >
            static_cast<std::size_t>(record.ranks)) {
      throw json::other_error::create(0, "no wave of this run", &line);
    }
    found_.waves[wave_of(line)] = record;
  }

  void call(const json& line) {
    found_.calls.push_back({.ranks = static_cast<int>(whole(line, "ranks", 1, kMostRanks)),
                            .stopped = line.at("stopped").get<bool>(),
                            .seconds = line.at("seconds").get<double>(),
                            .learning_seconds = line.at("learning_seconds").get<double>(),
                            .peak_memory_bytes = amounts(line, "peak_memory_bytes"),
                            .waited_seconds = amounts(line, "waited_seconds")});
  }

  int blocks_;
  Metrics found_;
};

}  // namespace

std::vector<int> Metrics::worse_blocks() const {
  std::vector<int> worse;
  for (const auto& [block, record] : frozen) {
    if (record.worse) worse.push_back(block);
  }
  return worse;
}

Metrics read_metrics(std::string_view text, int blocks) {
  Reader reader(blocks);
  while (true) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return reader.take();
    if (end > 0) reader.read(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
}

}  // namespace lrq::report
