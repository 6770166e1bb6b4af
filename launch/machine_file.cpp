#include "launch/machine_file.h"

#include <algorithm>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "io/file_system.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::cli {
namespace {

using Json = nlohmann::ordered_json;

pipeline::Machine machine_from_json(const std::string& text, const std::string& where) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  pipeline::Machine machine;
  const auto refuse = [&](const std::string& what) {
    throw DataError({.what = what,
                     .where = where,
                     .fix = "write it again with lrq-dist plan --probe --json FILE"});
  };
  if (!json.is_object()) refuse("not a JSON object of a machine's figures");
  for (const pipeline::MachineField& field : pipeline::machine_fields()) {
    const std::string name(field.name);
    if (!json.contains(name) || !json[name].is_number() || json[name].get<double>() < 0.0) {
      refuse(concat("the figure ", name, " is missing, or not a number of 0 or more"));
    }
    machine.*field.value = json[name].get<double>();
  }
  machine.name = std::filesystem::path(where).stem().string();
  machine.source = json.value("source", where);
  machine.measured = json.value("measured", true);
  machine.fused_cast = json.value("fused_cast", false);
  machine.ranks_per_node = json.value("ranks_per_node", 0);
  return machine;
}

}  // namespace

std::string machine_to_json(const pipeline::Machine& machine) {
  Json json{{"source", machine.source}, {"measured", machine.measured}};
  for (const pipeline::MachineField& field : pipeline::machine_fields()) {
    json[std::string(field.name)] = machine.*field.value;
  }
  json["fused_cast"] = machine.fused_cast;
  json["ranks_per_node"] = machine.ranks_per_node;
  return json.dump(2);
}

pipeline::Machine find_machine(const std::string& name_or_file) {
  const auto names = pipeline::known_machine_names();
  if (std::find(names.begin(), names.end(), name_or_file) != names.end()) {
    return pipeline::known_machine(name_or_file);
  }
  const auto files = io::make_posix_file_system();
  if (!files->exists(name_or_file)) return pipeline::known_machine(name_or_file);  // throws
  return machine_from_json(files->read(name_or_file), name_or_file);
}

}  // namespace lrq::cli
