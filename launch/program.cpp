#include "launch/program.h"

#include <cstdio>

#include <CLI/CLI.hpp>

#include "launch/commands.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::cli {
namespace {

/// Tell that no command was named, or one that does not exist.
void refuse_command(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  const std::vector<std::string> words = app.remaining();
  std::string what = "no command is given";
  if (!words.empty()) {
    what = concat("there is no command '", words.front(), "'");
    const std::string nearest = nearest_word(words.front(), names);
    if (!nearest.empty()) what += concat("; did you mean '", nearest, "'?");
  }
  const ErrorText text{
      .what = what, .where = "command line", .fix = concat("use one of ", join(names, ", "))};
  std::fputs(format_error(text, "lrq-dist").c_str(), stderr);
}

/// The exit code of a command line that could not be read, after telling why (on one rank only).
int refuse_command_line(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
  if (launcher_rank() == 0 && app.get_subcommands().empty()) {
    refuse_command(app);
  } else if (launcher_rank() == 0) {
    std::string command = "lrq-dist";
    for (const CLI::App* chosen : app.get_subcommands()) command += " " + chosen->get_name();
    const ErrorText text{
        .what = error.what(), .where = "command line", .fix = "see " + command + " --help"};
    std::fputs(format_error(text, "lrq-dist").c_str(), stderr);
  }
  return kExitUsage;
}

int run_local(const std::function<void()>& work) {
  try {
    work();
    return 0;
  } catch (...) {
    return report_current_exception("lrq-dist");
  }
}

}  // namespace

int run_program(int argc, const char* const* argv) {
  CLI::App app("Quantize large language models by block-wise calibration, on one rank or many.",
               "lrq-dist");
  app.set_version_flag("--version", version_text());
  app.set_config("--config", "",
                 "TOML file with any of these options ([calibrate] for a command's)");
  app.require_subcommand(1);
  app.fallthrough();
  GlobalOptions options;
  Chosen chosen{.global = options};
  add_global_options(app, options);
  add_commands(app, chosen);
  try {
    auto arguments = normalised_arguments(argc, argv);
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend() - 1);
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    return refuse_command_line(app, error);
  } catch (const UsageError& error) {  // an option that says itself what is wrong with it
    if (launcher_rank() == 0) std::fputs(format_error(error.text(), "lrq-dist").c_str(), stderr);
    return error.exit_code();
  }
  if (chosen.local) {
    return launcher_rank() == 0 ? run_local(chosen.local) : 0;
  }
  return run_guarded(options, chosen.tensors, chosen.collective);
}

}  // namespace lrq::cli
