#include "src/pipeline/run_log.h"

#include <algorithm>
#include <cstdio>
#include <unistd.h>
#include <utility>

#include <nlohmann/json.hpp>

#include "src/base/log.h"
#include "src/base/text.h"

namespace lrq::pipeline {

using nlohmann::ordered_json;

RunLog::RunLog(io::FileSystem& files, const std::filesystem::path& run, Speaker speaker)
    : files_(files),
      path_(run / "metrics.jsonl"),
      speaks_(speaker == Speaker::kYes),
      terminal_(speaks_ && isatty(STDERR_FILENO) != 0) {}

void RunLog::close_torn_line() {
  if (!speaks_ || !files_.exists(path_)) return;
  const std::string lines = files_.read(path_);
  if (!lines.empty() && lines.back() != '\n') write_line("");
}

void RunLog::write_line(const std::string& json) { files_.append(path_, json + "\n"); }

void RunLog::show_progress(const std::string& text) {
  if (!terminal_ || !log_enabled(LogLevel::kInfo)) return;
  std::fprintf(stderr, "\r\033[K%s", text.c_str());
  std::fflush(stderr);
}

void RunLog::start(std::int64_t total_steps, std::int64_t tokens_per_step) {
  close_torn_line();
  total_steps_ = total_steps;
  done_steps_ = 0;
  tokens_per_step_ = tokens_per_step;
  since_start_ = Stopwatch();
}

void RunLog::phase(const std::string& name, const std::string& detail) {
  if (!speaks_) return;
  if (terminal_) {
    show_progress(concat(name, " ", detail));
  } else {
    log_event(LogLevel::kInfo, name, detail);
  }
}

void RunLog::epoch(int wave, std::int64_t epoch, std::int64_t epochs,
                   const std::vector<BlockEpoch>& blocks, std::int64_t steps_done) {
  if (!speaks_) return;
  done_steps_ += steps_done * static_cast<std::int64_t>(blocks.size());
  const double elapsed = std::max(since_start_.seconds(), 1e-3);
  const double rate = static_cast<double>(done_steps_) / elapsed;
  const double left = static_cast<double>(total_steps_ - done_steps_) / rate;
  for (const BlockEpoch& entry : blocks) {
    const LossSummary& loss = entry.losses;
    const double tokens = static_cast<double>((loss.steps + loss.masked) * tokens_per_step_) /
                          std::max(entry.seconds, 1e-3);
    write_line(ordered_json{
        {"event", "epoch"},
        {"wave", wave},
        {"block", entry.block.value},
        {"epoch", epoch},
        {"loss", loss.loss},
        {"mse", loss.mse},
        {"nlc", loss.nlc},
        {"masked", loss.masked},
        {"stopped", loss.stopped},
        {"seconds", entry.seconds},
        {"steps", steps_done},
        {"tokens_per_second",
         tokens}}.dump());
    const std::string fields =
        concat("wave=", wave, " block=", entry.block, " epoch=", epoch, "/", epochs,
               " loss=", loss.loss, " mse=", loss.mse, " nlc=", loss.nlc,
               " tokens_per_s=", std::int64_t(tokens), " s=", entry.seconds);
    if (loss.masked > 0) {
      if (terminal_) show_progress("");
      log_event(LogLevel::kWarning, "nonfinite_loss",
                concat("block=", entry.block, " epoch=", epoch, " masked=", loss.masked,
                       loss.stopped ? " stopped=yes best_epoch=restored" : ""));
    }
    if (!terminal_) {
      log_event(LogLevel::kInfo, "epoch", concat(fields, " left=", std::int64_t(left), "s"));
    }
  }
  if (!blocks.empty()) {
    const double tokens = rate * static_cast<double>(tokens_per_step_);
    show_progress(concat("wave ", wave, "  block ", blocks.front().block, "-", blocks.back().block,
                         "  epoch ", epoch, "/", epochs, "  loss ", blocks.back().losses.loss, "  ",
                         std::int64_t(tokens), " tokens/s  left ", format_seconds(left)));
  }
}

void RunLog::frozen(int wave, const std::vector<PropagatedLoss>& blocks,
                    const std::vector<PropagatedLoss>& start) {
  if (!speaks_) return;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const PropagatedLoss& entry = blocks[i];
    ordered_json line{{"event", "frozen"},
                      {"wave", wave},
                      {"block", entry.block.value},
                      {"mse", entry.mse_mean},
                      {"mse_median", entry.mse_median},
                      {"nlc", entry.nlc_mean},
                      {"nlc_median", entry.nlc_median}};
    std::string of_start;
    bool worse = false;
    if (!start.empty()) {
      line["start_mse_median"] = start[i].mse_median;
      line["start_nlc_median"] = start[i].nlc_median;
      // Written so that a loss that is not finite counts as worse.
      worse = !(entry.nlc_median <= start[i].nlc_median);
      line["worse_than_start"] = worse;
      of_start = concat(" start_median=", start[i].nlc_median);
    }
    write_line(line.dump());
    if (!terminal_) {
      log_event(LogLevel::kInfo, "frozen",
                concat("wave=", wave, " block=", entry.block, " propagated_nlc=", entry.nlc_mean,
                       " median=", entry.nlc_median, of_start, " propagated_mse=", entry.mse_mean));
    }
    if (worse) {
      if (terminal_) show_progress("");
      log_event(LogLevel::kWarning, "worse_than_start",
                concat("wave=", wave, " block=", entry.block, " nlc_median=", entry.nlc_median,
                       of_start));
    }
  }
}

void RunLog::waited(int wave, const LearnShape& shape, const std::vector<StageTimes>& stages) {
  if (!speaks_) return;
  const double seconds = stages.front().seconds;
  std::vector<double> waited;
  std::vector<double> cuts;
  for (const StageTimes& stage : stages) {
    // A stage that was done earlier, or began later, has waited for the others as well.
    waited.push_back(std::max(0.0, seconds - (stage.seconds - stage.waited)));
    cuts.push_back(stage.cuts);
  }
  write_line(ordered_json{
      {"event", "waited"},
      {"wave", wave},
      {"ranks", shape.ranks},
      {"replicas", shape.replicas},
      {"first_step", shape.first_step},
      {"steps", shape.steps},
      {"cut_every", shape.cut_every},
      {"turn", shape.turn},
      {"seconds", seconds},
      {"waited_seconds", waited},
      {"cut_seconds",
       cuts}}.dump());
}

void RunLog::ended(const CallSummary& call) {
  if (!speaks_) return;
  write_line(ordered_json{{"event", "call"},
                          {"ranks", call.waited_seconds.size()},
                          {"stopped", call.stopped},
                          {"seconds", call.seconds},
                          {"learning_seconds", call.learning_seconds},
                          {"peak_memory_bytes", call.peak_memory_bytes},
                          {"waited_seconds", call.waited_seconds}}
                 .dump());
}

void RunLog::finish() { show_progress(""); }

}  // namespace lrq::pipeline
