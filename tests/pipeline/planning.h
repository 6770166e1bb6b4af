#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "src/models/family.h"
#include "src/pipeline/cost_model.h"

namespace lrq::pipeline {

/// The family of one of the configs in tests/data/configs.
inline std::unique_ptr<models::Family> family_of_config(const std::string& name) {
  const auto path = std::filesystem::path(LRQ_TEST_DATA) / "configs" / (name + ".json");
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return models::make_family(models::parse_model_config(text.str(), path.string()));
}

inline recipe::Recipe recipe_with_bits(int weights, int activations) {
  recipe::Recipe recipe;
  recipe.weights.bits = weights;
  recipe.activations.bits = activations;
  return recipe;
}

/// A machine on which nothing takes time: a test slows down what it is about.
inline Machine instant_machine() {
  Machine machine;
  for (const MachineField& field : machine_fields()) {
    const bool takes =
        field.name.ends_with("_s") || field.name == "base_bytes" || field.name == "storage";
    machine.*field.value = takes ? 0.0 : field.name.ends_with("_factor") ? 1.0 : 1e30;
  }
  return machine;
}

/// A block of LLaMA-2-7B on 2048 tokens in float32: C = Q = V = 4096, I = 11008, F = 202375168.
inline BlockWork work_of_7b(const recipe::Recipe& recipe) {
  return {.block = model_figures(*family_of_config("llama-2-7b")).block,
          .learnables = {.stepped = 1000, .fixed = 0},
          .recipe = recipe,
          .tokens = 2048};
}

}  // namespace lrq::pipeline
