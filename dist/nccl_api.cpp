#include "dist/nccl_api.h"

#include "src/base/text.h"

namespace lrq::dist {

std::optional<std::string> nccl_version(const std::optional<NcclApi>& api) {
  int code = 0;
  if (!api || api->get_version(&code) != 0) return std::nullopt;
  // Source: NCCL_VERSION in nccl.h; since 2.9 the major version counts 10000, before 1000.
  const int major_unit = code < 10000 ? 1000 : 10000;
  return concat(code / major_unit, ".", code % major_unit / 100, ".", code % 100);
}

std::optional<std::string> nccl_version() { return nccl_version(linked_nccl()); }

int cuda_device_count(const std::optional<NcclApi>& api) {
  int count = 0;
  return api && api->get_device_count(&count) == 0 ? count : 0;
}

int cuda_device_count() { return cuda_device_count(linked_nccl()); }

}  // namespace lrq::dist
