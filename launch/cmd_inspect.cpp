#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>

#include "io/describe.h"
#include "launch/commands.h"

namespace lrq::cli {

void add_inspect_command(CLI::App& app, Chosen& chosen) {
  auto path = std::make_shared<std::filesystem::path>();
  CLI::App* command = app.add_subcommand(
      "inspect", "What is in a file: safetensors, HDF5 or a run's JSON; checks its checksum");
  command->add_option("file", *path, "the file")->required();
  command->callback([path, &chosen] {
    chosen.local = [path] { std::fputs(io::describe_file(*path).c_str(), stdout); };
  });
}

}  // namespace lrq::cli
