#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>

#include <ATen/ATen.h>

#include "src/quant/fake_quant.h"
#include "src/recipe/recipe_toml.h"

// One call into a library that links torch and one into one that links toml++.
int main() {
  const lrq::recipe::Recipe recipe = lrq::recipe::parse_recipe(
      "weights = { bits = 3 }", "consumer", [](const std::string&) { return std::nullopt; });
  const lrq::quant::Grid grid{.bits = recipe.weights.bits};
  const at::Tensor weight = at::tensor({0.1F, 0.2F, 0.4F, 0.8F}).reshape({1, 4});
  const at::Tensor codes = lrq::quant::quantize_weight(weight, {}, grid).codes;
  std::cout << "code of 0.4: " << codes[0][2].item<int>() << '\n';
  // A range [0.1, 0.8] in 3 bits: step 0.1, zero point -1 (the specification's vector A1).
  const bool right = codes[0][0].item<int>() == 0 && codes[0][1].item<int>() == 1 &&
                     codes[0][2].item<int>() == 3 && codes[0][3].item<int>() == 7;
  return right ? EXIT_SUCCESS : EXIT_FAILURE;
}
