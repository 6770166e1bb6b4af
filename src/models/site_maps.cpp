#include "src/models/site_maps.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "src/base/check.h"
#include "src/base/text.h"
#include "src/transform/hadamard.h"

namespace lrq::models {
namespace {

constexpr std::string_view kMapPrefix = "map.";
constexpr std::string_view kReflection = ".householder";

Site mapped_site(std::string_view name) {
  const auto* const found = std::find_if(kAllSites.begin(), kAllSites.end(),
                                         [&](Site site) { return site_name(site) == name; });
  expect(found != kAllSites.end(), concat("no site '", name, "' has a map"));
  return *found;
}

}  // namespace

std::string map_name(Site site, std::size_t place, std::string_view kind) {
  return concat(kMapPrefix, site_name(site), '.', padded(static_cast<int>(place), 2), '.', kind);
}

bool is_map(const std::string& learnable) { return learnable.starts_with(kMapPrefix); }
bool is_reflection(const std::string& learnable) { return learnable.ends_with(kReflection); }

std::map<Site, transform::Chain> site_maps(const NamedTensors& learnables) {
  std::map<Site, transform::Chain> maps;
  // Names are in order, so the places of a site are too.
  for (auto it = learnables.lower_bound(std::string(kMapPrefix)); it != learnables.end(); ++it) {
    const auto& [name, parameter] = *it;
    if (!is_map(name)) break;
    const std::string_view rest = std::string_view(name).substr(kMapPrefix.size());
    const transform::Kind* kind = transform::find_kind(rest.substr(rest.rfind('.') + 1));
    expect(kind != nullptr, concat("no kind of transform is called as in ", name));
    // Others would also change a bias, or be undone by the norm's own scale: fold() has none.
    expect(kind->orthogonal, concat("a block has orthogonal maps alone, not ", name));
    maps[mapped_site(rest.substr(0, rest.find('.')))].push_back({kind, parameter});
  }
  return maps;
}

transform::Chain hadamard_of_heads(std::int64_t head_dim) {
  return {{transform::find_kind("hadamard"),
           transform::hadamard_parameter(transform::hadamard_size(head_dim))}};
}

}  // namespace lrq::models
