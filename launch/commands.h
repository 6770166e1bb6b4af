#pragma once

#include <functional>
#include <vector>

#include "launch/options.h"
#include "launch/session.h"

namespace lrq::cli {

/// What the command line asked for: filled by the chosen subcommand's callback, run by main.
struct Chosen {
  const GlobalOptions& global;                    ///< read before either of these runs
  std::function<void(Session&)> collective = {};  ///< runs on every rank
  TensorsOf tensors = TensorsOf::kHost;           ///< of `collective`
  std::function<void()> local = {};               ///< needs no ranks: only the first one runs it
};

// One function a command, each in launch/cmd_<name>.cpp: declares the options and fills `chosen`.
void add_calibrate_command(CLI::App& app, Chosen& chosen);
void add_eval_command(CLI::App& app, Chosen& chosen);
void add_export_command(CLI::App& app, Chosen& chosen);
void add_inspect_command(CLI::App& app, Chosen& chosen);
void add_plan_command(CLI::App& app, Chosen& chosen);
void add_recipe_command(CLI::App& app, Chosen& chosen);
void add_report_command(CLI::App& app, Chosen& chosen);
void add_status_command(CLI::App& app, Chosen& chosen);
void add_tokenize_command(CLI::App& app, Chosen& chosen);

/// All commands, in the order of the help.
void add_commands(CLI::App& app, Chosen& chosen);

}  // namespace lrq::cli
