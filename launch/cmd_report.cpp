#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>

#include "io/file_system.h"
#include "launch/commands.h"
#include "src/report/page.h"

namespace lrq::cli {
namespace {

struct ReportOptions {
  std::filesystem::path run;
  std::filesystem::path out;
};

void write_report(const ReportOptions& options, const std::string& json_file) {
  const auto files = io::make_posix_file_system();
  const report::RunReport found = report::load_report(*files, options.run);
  const auto out = options.out.empty() ? options.run / "report.html" : options.out;
  io::write_atomically(*files, out, report::page_of(found));
  if (!json_file.empty()) io::write_atomically(*files, json_file, report::json_of(found) + "\n");
  std::printf("%s: %d blocks, %s\n", out.c_str(), found.blocks, found.state().c_str());
}

}  // namespace

void add_report_command(CLI::App& app, Chosen& chosen) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* command = app.add_subcommand(
      "report",
      "One HTML page of a run, finished or not: losses, blocks, waiting measured and simulated");
  command->add_option("--run", options->run, "run directory")->required();
  command->add_option("--out", options->out,
                      "the page (default: report.html in the run directory)");
  command->callback([options, &chosen] {
    chosen.local = [options, &chosen] { write_report(*options, chosen.global.json); };
  });
}

}  // namespace lrq::cli
