#include "io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <set>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"

namespace lrq::io {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's own reader
constexpr int kMaxDepth = 4;                            // {name: {"shape": [..]}} needs 3

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

struct DtypeName {
  std::string_view name;
  at::ScalarType dtype;
};
constexpr std::array kDtypes = {DtypeName{"F64", at::kDouble},    DtypeName{"F32", at::kFloat},
                                DtypeName{"F16", at::kHalf},      DtypeName{"I64", at::kLong},
                                DtypeName{"BF16", at::kBFloat16}, DtypeName{"I32", at::kInt},
                                DtypeName{"I16", at::kShort},     DtypeName{"I8", at::kChar},
                                DtypeName{"U8", at::kByte},       DtypeName{"BOOL", at::kBool}};

constexpr const char* kFixDownload = "download or copy the file again, and compare its checksum";

/// Where a problem is: the file, and the tensor if one is meant.
struct HeaderPlace {
  const std::filesystem::path& path;
  std::string tensor = {};
};

[[noreturn]] void refuse(const HeaderPlace& place, std::string what,
                         std::string fix = kFixDownload) {
  std::string where = place.path.string();
  if (!place.tensor.empty()) where += ", tensor " + place.tensor;
  throw DataError({.what = std::move(what), .where = std::move(where), .fix = std::move(fix)});
}

std::string_view header_text(std::span<const std::byte> file, const HeaderPlace& place) {
  if (file.size() < kSafetensorsLengthBytes) {
    refuse(place, concat("file is ", file.size(), " bytes, a safetensors file has at least ",
                         kSafetensorsLengthBytes));
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), kSafetensorsLengthBytes);
  if (length > kMaxHeaderBytes) {
    refuse(place, concat("header length is ", length, " bytes, the largest accepted is ",
                         kMaxHeaderBytes));
  }
  if (length > file.size() - kSafetensorsLengthBytes) {
    refuse(place, concat("file is ", file.size(), " bytes, its header alone needs ",
                         length + kSafetensorsLengthBytes));
  }
  return {reinterpret_cast<const char*>(file.data()) + kSafetensorsLengthBytes,
          static_cast<std::size_t>(length)};
}

/// Parse, refusing what the JSON library would let pass: a key that appears twice (the last one
/// would win) and nesting that no safetensors header has.
Json parse_strictly(std::string_view text, const HeaderPlace& place) {
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    const auto level = static_cast<std::size_t>(depth);
    if (depth > kMaxDepth) refuse(place, "header is nested deeper than any safetensors header");
    if (event == Json::parse_event_t::object_start) {
      keys.resize(level + 1);
      keys.emplace_back();
    } else if (event == Json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys.at(level).insert(key).second) {
        refuse(place, concat("header names \"", key, "\" twice"));
      }
    }
    return true;
  };
  try {
    Json json = Json::parse(text.begin(), text.end(), check);
    if (!json.is_object()) {
      refuse(place, concat("header is a JSON ", json.type_name(), ", not an object"));
    }
    return json;
  } catch (const Json::exception& error) {
    refuse(place, concat("header is not JSON: ", error.what()));
  }
}

const Json& field(const Json& entry, const char* name, const HeaderPlace& place) {
  const auto found = entry.find(name);
  if (found == entry.end()) refuse(place, concat("entry has no \"", name, "\""));
  return *found;
}

at::ScalarType read_dtype(const Json& entry, const HeaderPlace& place) {
  const Json& value = field(entry, "dtype", place);
  if (!value.is_string()) refuse(place, concat("dtype is ", value.dump(), ", not a name"));
  const auto& name = value.get_ref<const std::string&>();
  if (const auto dtype = safetensors_dtype(name)) return *dtype;
  refuse(place, concat("dtype is ", name, ", read are F64, F32, F16, BF16, integers and BOOL"),
         "save the checkpoint as float16, bfloat16 or float32");
}

/// Non-negative and small enough for int64.
std::uint64_t read_count(const Json& value, std::string_view what, const HeaderPlace& place) {
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kMax) {
    refuse(place, concat(what, " holds ", value.dump(), ", not a whole number from 0 to ", kMax));
  }
  return value.get<std::uint64_t>();
}

std::uint64_t bytes_of(const SafetensorsEntry& entry, const HeaderPlace& place) {
  std::uint64_t bytes = c10::elementSize(entry.dtype);
  bool overflow = false;
  for (const std::int64_t size : entry.shape) {
    overflow |= __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes);
  }
  if (overflow) refuse(place, concat("shape ", format_list(entry.shape), " is too large"));
  return bytes;
}

SafetensorsEntry read_entry(const Json& json, std::size_t data_start, const HeaderPlace& place) {
  if (!json.is_object()) refuse(place, concat("entry is ", json.dump(), ", not an object"));
  SafetensorsEntry entry{.dtype = read_dtype(json, place)};
  const Json& shape = field(json, "shape", place);
  if (!shape.is_array()) refuse(place, concat("shape is ", shape.dump(), ", not a list"));
  for (const Json& size : shape) {
    entry.shape.push_back(static_cast<std::int64_t>(read_count(size, "shape", place)));
  }
  const Json& offsets = field(json, "data_offsets", place);
  if (!offsets.is_array() || offsets.size() != 2) {
    refuse(place, concat("data_offsets is ", offsets.dump(), ", not [begin, end]"));
  }
  const std::uint64_t begin = read_count(offsets[0], "data_offsets", place);
  const std::uint64_t end = read_count(offsets[1], "data_offsets", place);
  if (begin > end) refuse(place, concat("data_offsets go backwards: ", offsets.dump()));
  const std::uint64_t expected = bytes_of(entry, place);
  if (end - begin != expected) {
    refuse(place, concat("data_offsets span ", end - begin, " bytes, shape ",
                         format_list(entry.shape), " needs ", expected));
  }
  entry.begin = data_start + begin;  // both are below 2^63: no overflow
  entry.end = data_start + end;
  return entry;
}

void check_layout(const SafetensorsHeader& header, std::size_t file_bytes,
                  const HeaderPlace& place) {
  std::vector<const std::pair<const std::string, SafetensorsEntry>*> order;
  for (const auto& tensor : header.tensors) {
    if (tensor.second.end > tensor.second.begin) order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(),
            [](const auto* a, const auto* b) { return a->second.begin < b->second.begin; });
  std::size_t needed = header.bytes;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && order[i]->second.begin < order[i - 1]->second.end) {
      refuse(place, concat("tensors ", order[i - 1]->first, " and ", order[i]->first,
                           " overlap: one ends at byte ", order[i - 1]->second.end,
                           ", the next begins at ", order[i]->second.begin));
    }
    needed = std::max(needed, order[i]->second.end);
  }
  for (const auto& [name, entry] : header.tensors) needed = std::max(needed, entry.end);
  if (needed > file_bytes) {
    refuse(place,
           concat("file is ", file_bytes, " bytes, its header says ", needed, " are needed"));
  }
}

}  // namespace

std::optional<at::ScalarType> safetensors_dtype(std::string_view name) {
  for (const DtypeName& known : kDtypes) {
    if (known.name == name) return known.dtype;
  }
  return std::nullopt;
}

std::string_view safetensors_name(at::ScalarType dtype) {
  for (const DtypeName& known : kDtypes) {
    if (known.dtype == dtype) return known.name;
  }
  throw BugError({.what = concat("safetensors has no name for dtype ", at::toString(dtype))});
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                           const std::filesystem::path& path) {
  const HeaderPlace place{.path = path};
  const std::string_view text = header_text(file, place);
  const Json json = parse_strictly(text, place);
  SafetensorsHeader header{.bytes = kSafetensorsLengthBytes + text.size()};
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) refuse(place, "__metadata__ is not an object of strings");
      for (const auto& [key, text_value] : value.items()) {
        if (!text_value.is_string()) refuse(place, concat("metadata ", key, " is not a string"));
        header.metadata[key] = text_value.get<std::string>();
      }
      continue;
    }
    header.tensors.emplace(name, read_entry(value, header.bytes, {.path = path, .tensor = name}));
  }
  check_layout(header, file.size(), place);
  return header;
}

}  // namespace lrq::io
