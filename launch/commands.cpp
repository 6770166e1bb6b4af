#include "launch/commands.h"

namespace lrq::cli {

void add_commands(CLI::App& app, Chosen& chosen) {
  add_plan_command(app, chosen);
  add_calibrate_command(app, chosen);
  add_eval_command(app, chosen);
  add_export_command(app, chosen);
  add_status_command(app, chosen);
  add_report_command(app, chosen);
  add_inspect_command(app, chosen);
  add_tokenize_command(app, chosen);
  add_recipe_command(app, chosen);
}

}  // namespace lrq::cli
