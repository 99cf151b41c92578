#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <rino/core/error.hpp>
#include <rino/core/names.hpp>
#include <rino/io/atomic_file.hpp>
#include <rino/io/detail/json.hpp>

/// Named tensors in the safetensors format, as Python's `safetensors` package reads and writes it:
/// the length of the header (8 bytes, little-endian), the header (JSON: dtype, shape and data_offsets of each
/// tensor, and `__metadata__`), the tensors' bytes (C order, little-endian) without gaps.
///
/// Source: https://github.com/huggingface/safetensors, section "Format".
namespace rino {

namespace detail {

/// `count` of the names, those closest to `name` first: by the edit distance of Levenshtein.
inline std::vector<std::string> closest_names(std::string_view name, const std::vector<std::string>& names,
                                              std::size_t count) {
  std::vector<std::pair<std::size_t, std::string>> ranked;
  for (const std::string& candidate : names) {
    std::vector<std::size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < name.size(); ++i) {
      std::size_t diagonal = std::exchange(row[0], i + 1);
      for (std::size_t j = 0; j < candidate.size(); ++j) {
        const std::size_t substitution = diagonal + (name[i] == candidate[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({substitution, diagonal + 1, row[j] + 1});
      }
    }
    ranked.emplace_back(row.back(), candidate);
  }
  std::sort(ranked.begin(), ranked.end());
  ranked.resize(std::min(count, ranked.size()));
  std::vector<std::string> closest;
  for (auto& [distance, candidate] : ranked) {
    closest.push_back(std::move(candidate));
  }
  return closest;
}

}  // namespace detail

/// What a safetensors file holds. Names and metadata are UTF-8.
struct Safetensors {
  /// Names are unique; `read_safetensors` gives them in order of name.
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  /// Free text by key, such as a recipe as JSON.
  std::map<std::string, std::string> metadata;

  /// @throws rino::Error that names the closest names unless there is a tensor `name`.
  const at::Tensor& at(std::string_view name) const {
    const at::Tensor* const tensor = find(name);
    if (tensor == nullptr) {
      std::vector<std::string> names;
      for (const auto& entry : tensors) {
        names.push_back(entry.first);
      }
      std::string closest;
      for (const std::string& candidate : detail::closest_names(name, names, 3)) {
        closest += (closest.empty() ? ", the closest names being " : ", ") + detail::json_quote(candidate);
      }
      fail("there is no tensor ", detail::json_quote(name), " among the ", tensors.size(), " of the file", closest,
           ": use a file that was written by the same architecture");
    }
    return *tensor;
  }

  bool contains(std::string_view name) const { return find(name) != nullptr; }

 private:
  const at::Tensor* find(std::string_view name) const {
    const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.first == name; });
    return found == tensors.end() ? nullptr : &found->second;
  }
};

namespace detail {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian, and so is this code");

/// As in the reference implementation: a longer header is taken for damage.
inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;
/// LibTorch's operators know no more dimensions.
inline constexpr std::size_t kMaxSafetensorsDimensions = 64;
inline constexpr std::string_view kSafetensorsMetadata = "__metadata__";

struct SafetensorsType {
  std::string_view name;
  at::ScalarType type;
};

/// In the reference implementation's order: it stores the tensors of the last type first, so that every tensor is
/// aligned to its type.
inline constexpr std::array<SafetensorsType, 10> kSafetensorsTypes{{{"BOOL", at::kBool},
                                                                    {"U8", at::kByte},
                                                                    {"I8", at::kChar},
                                                                    {"I16", at::kShort},
                                                                    {"F16", at::kHalf},
                                                                    {"BF16", at::kBFloat16},
                                                                    {"I32", at::kInt},
                                                                    {"F32", at::kFloat},
                                                                    {"F64", at::kDouble},
                                                                    {"I64", at::kLong}}};

inline std::string safetensors_type_names() {
  return names_of(kSafetensorsTypes, &SafetensorsType::name);
}

/// Where a tensor's bytes lie, from the end of the header on.
struct SafetensorsEntry {
  std::string name;
  std::size_t type = 0;  ///< Index into kSafetensorsTypes.
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// Writing.

/// A tensor to be written and its place.
using PlacedTensor = std::pair<SafetensorsEntry, at::Tensor>;

/// The tensors in the order of their bytes.
inline std::vector<PlacedTensor> place_tensors(const Safetensors& content) {
  std::vector<PlacedTensor> placed;
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < content.tensors.size(); ++i) {
    const auto& [name, tensor] = content.tensors[i];
    require(is_utf8(name), "the name of tensor number ", i, " is not UTF-8: encode it so");
    require(name != kSafetensorsMetadata, "a tensor is called ", name,
            ", which the format keeps for metadata: give it another name");
    require(names.insert(name).second, "two tensors are called ", json_quote(name), ": give them different names");
    require(tensor.defined() && tensor.layout() == at::kStrided, "tensor ", json_quote(name), " is ",
            tensor.defined() ? "sparse: call to_dense() on it" : "undefined: leave it out");
    const auto known = std::find_if(kSafetensorsTypes.begin(), kSafetensorsTypes.end(),
                                    [&](const SafetensorsType& type) { return type.type == tensor.scalar_type(); });
    require(known != kSafetensorsTypes.end(), "tensor ", json_quote(name), " is of type ",
            at::toString(tensor.scalar_type()), ": convert it to one of ", safetensors_type_names());
    require(static_cast<std::size_t>(tensor.dim()) <= kMaxSafetensorsDimensions, "tensor ", json_quote(name), " has ",
            tensor.dim(), " dimensions: reshape it to ", kMaxSafetensorsDimensions, " or fewer");
    SafetensorsEntry entry;
    entry.name = name;
    entry.type = static_cast<std::size_t>(known - kSafetensorsTypes.begin());
    entry.shape = tensor.sizes().vec();
    placed.emplace_back(std::move(entry), tensor);
  }
  std::sort(placed.begin(), placed.end(), [](const PlacedTensor& left, const PlacedTensor& right) {
    return left.first.type != right.first.type ? left.first.type > right.first.type
                                               : left.first.name < right.first.name;
  });
  std::uint64_t begin = 0;
  for (auto& [entry, tensor] : placed) {
    entry.begin = begin;
    begin += tensor.nbytes();
    entry.end = begin;
  }
  return placed;
}

/// The header with its padding to 8 bytes.
inline std::string safetensors_header(const std::vector<PlacedTensor>& placed,
                                      const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  const auto open_key = [&](std::string_view key) {
    (header += header.back() == '{' ? "" : ",") += json_quote(key) + ':';
  };
  if (!metadata.empty()) {
    open_key(kSafetensorsMetadata);
    header += '{';
    for (const auto& [key, value] : metadata) {
      require(is_utf8(key) && is_utf8(value), "the metadata ", is_utf8(key) ? json_quote(key) : "keys",
              " are not UTF-8: encode them so");
      open_key(key);
      header += json_quote(value);
    }
    header += '}';
  }
  for (const auto& [entry, tensor] : placed) {
    open_key(entry.name);
    // appended, not added: g++ 12 warns wrongly (its bug 105651) of text + temporary string
    header.append("{\"dtype\":").append(json_quote(kSafetensorsTypes[entry.type].name)).append(",\"shape\":[");
    for (std::size_t i = 0; i < entry.shape.size(); ++i) {
      header += i == 0 ? "" : ",";
      header += std::to_string(entry.shape[i]);
    }
    header.append("],\"data_offsets\":[").append(std::to_string(entry.begin)).append(",");
    header.append(std::to_string(entry.end)).append("]}");
  }
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');
  require(header.size() <= kMaxSafetensorsHeader, "names, shapes and metadata take ", header.size(),
          " bytes where the format allows ", kMaxSafetensorsHeader, ": shorten the metadata");
  return header;
}

/// Writes the tensor's elements in C order.
inline void write_elements(AtomicFile& file, const std::string& name, const at::Tensor& tensor) {
  at::Tensor elements;
  const void* data = nullptr;
  try {
    elements = tensor.detach().cpu().resolve_neg().contiguous();
    data = elements.const_data_ptr();
  } catch (const c10::Error& error) {  // No memory for the copy; a tensor without data (device meta).
    fail("cannot write ", file.path(), ": tensor ", json_quote(name), " cannot be read (",
         error.what_without_backtrace(), "): give a tensor that has data, and memory for a copy of it");
  }
  file.write(data, elements.nbytes());
}

// Reading.

/// Reads one tensor's object of the header, without its place among the others.
inline SafetensorsEntry read_safetensors_entry(JsonReader& json, const std::string& name) {
  SafetensorsEntry entry;
  entry.name = name;
  std::optional<std::string> dtype;
  bool has_shape = false;
  std::vector<std::uint64_t> offsets;
  json.object([&](const std::string& key) {
    if (key == "dtype") {
      dtype = json.string();
    } else if (key == "shape") {
      has_shape = true;
      json.array([&] {
        const std::uint64_t size = json.whole_number();
        require(size <= std::numeric_limits<std::int64_t>::max(), "a dimension of ", size, " is too large");
        require(entry.shape.size() < kMaxSafetensorsDimensions, "there are more than ", kMaxSafetensorsDimensions,
                " dimensions");
        entry.shape.push_back(static_cast<std::int64_t>(size));
      });
    } else if (key == "data_offsets") {
      json.array([&] {
        require(offsets.size() < 2, "data_offsets has more than two numbers");
        offsets.push_back(json.whole_number());
      });
    } else {
      fail("the key ", json_quote(key), " is none of \"dtype\", \"shape\", \"data_offsets\"");
    }
  });
  require(dtype && has_shape && offsets.size() == 2, "dtype, shape or one of the two data_offsets is missing");

  const auto known = std::find_if(kSafetensorsTypes.begin(), kSafetensorsTypes.end(),
                                  [&](const SafetensorsType& type) { return type.name == *dtype; });
  require(known != kSafetensorsTypes.end(), "the dtype ", json_quote(*dtype), " is none of ", safetensors_type_names());
  entry.type = static_cast<std::size_t>(known - kSafetensorsTypes.begin());
  entry.begin = offsets[0];
  entry.end = offsets[1];

  // Empty dimensions count as 1 at first: LibTorch computes strides so, and these must not overflow either.
  auto bytes = static_cast<std::uint64_t>(at::elementSize(known->type));
  bool empty = false;
  for (const std::int64_t size : entry.shape) {
    empty = empty || size == 0;
    const auto factor = static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1));
    require(bytes <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / factor,
            "the shape has more elements than any memory");
    bytes *= factor;
  }
  bytes = empty ? 0 : bytes;
  require(entry.begin <= entry.end && entry.end - entry.begin == bytes, "dtype and shape make ", bytes,
          " bytes but data_offsets are ", entry.begin, " and ", entry.end);
  return entry;
}

/// The entries of a header in the order of the bytes, which they cover once each; and the metadata.
inline std::pair<std::vector<SafetensorsEntry>, std::map<std::string, std::string>> parse_safetensors_header(
    std::string_view header, std::uint64_t data_size) {
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
  require(header.starts_with('{'), "the header does not begin with '{'");
  JsonReader json(header);
  json.object([&](const std::string& key) {
    if (key == kSafetensorsMetadata) {
      json.object([&](const std::string& metadata_key) { metadata[metadata_key] = json.string(); });
      return;
    }
    try {
      entries.push_back(read_safetensors_entry(json, key));
    } catch (const Error& error) {
      fail("tensor ", json_quote(key), ": ", error.what());
    }
  });
  json.end();

  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& left, const SafetensorsEntry& right) {
    return std::pair(left.begin, left.end) < std::pair(right.begin, right.end);
  });
  std::uint64_t covered = 0;
  for (const SafetensorsEntry& entry : entries) {
    require(entry.begin == covered, "tensor ", json_quote(entry.name), " begins at byte ", entry.begin,
            " of the data but the tensors before it end at byte ", covered);
    covered = entry.end;
    require(covered <= data_size, "tensor ", json_quote(entry.name), " ends at byte ", covered,
            " of the data, of which there are only ", data_size, ": the file was cut");
  }
  require(covered == data_size, data_size - covered, " bytes follow the last tensor");
  return {std::move(entries), std::move(metadata)};
}

/// One tensor's elements from where the file stands.
inline at::Tensor read_elements(std::ifstream& file, const SafetensorsEntry& entry) {
  const at::ScalarType type = kSafetensorsTypes[entry.type].type;
  at::Tensor tensor = at::empty(entry.shape, at::TensorOptions(at::kCPU).dtype(type));
  const std::size_t size = tensor.nbytes();
  if (size == 0) {
    return tensor;
  }
  auto* const bytes = static_cast<char*>(tensor.mutable_data_ptr());
  file.read(bytes, static_cast<std::streamsize>(size));
  require(file.good(), "tensor ", json_quote(entry.name), " cannot be read to its end");
  if (type == at::kBool) {
    // Any other value of a bool is undefined behaviour wherever the tensor is used.
    const auto* const wrong = std::find_if(bytes, bytes + size, [](char byte) { return byte != 0 && byte != 1; });
    require(wrong == bytes + size, "element ", wrong - bytes, " of tensor ", json_quote(entry.name), " is ",
            static_cast<int>(static_cast<unsigned char>(wrong == bytes + size ? 0 : *wrong)),
            " where a BOOL is 0 or 1");
  }
  return tensor;
}

inline Safetensors read_safetensors_stream(std::ifstream& file, std::uint64_t file_size) {
  std::array<char, 8> length_bytes{};
  require(file_size >= length_bytes.size(), "it has ", file_size,
          " bytes, fewer than the 8 that a safetensors file begins with");
  file.read(length_bytes.data(), static_cast<std::streamsize>(length_bytes.size()));
  const auto length = std::bit_cast<std::uint64_t>(length_bytes);
  const std::uint64_t rest = file_size - length_bytes.size();
  require(length <= rest && length <= kMaxSafetensorsHeader, "its first 8 bytes announce a header of ", length,
          " bytes, but ", rest, " follow and ", kMaxSafetensorsHeader, " are allowed");
  std::string header(length, '\0');
  file.read(header.data(), static_cast<std::streamsize>(length));
  require(file.good(), "its header cannot be read to its end");

  auto [entries, metadata] = parse_safetensors_header(header, rest - length);
  Safetensors content;
  content.metadata = std::move(metadata);
  for (const SafetensorsEntry& entry : entries) {
    content.tensors.emplace_back(entry.name, read_elements(file, entry));
  }
  std::sort(content.tensors.begin(), content.tensors.end(),
            [](const auto& left, const auto& right) { return left.first < right.first; });
  return content;
}

}  // namespace detail

/// Writes `content` to the file `path`, which appears whole or not at all (see `write_atomically`). Tensors may lie
/// on any device with any strides; those that share memory are each written in full. The same content gives
/// the same bytes, whatever the order of `content.tensors`.
///
/// Example:
/// @code
/// rino::write_safetensors("weights.safetensors", {{{"weight", at::ones({2, 3})}}, {{"epoch", "5"}}});
/// const at::Tensor weight = rino::read_safetensors("weights.safetensors").at("weight");
/// @endcode
///
/// @throws rino::Error for a type that is none of F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL, for sparse and undefined
///         tensors, a name that occurs twice, text that is not UTF-8; and where the file cannot be written.
inline void write_safetensors(const std::filesystem::path& path, const Safetensors& content) {
  std::vector<detail::PlacedTensor> placed;
  std::string header;
  try {
    placed = detail::place_tensors(content);
    header = detail::safetensors_header(placed, content.metadata);
  } catch (const Error& error) {
    fail("cannot write ", path, ": ", error.what());
  }
  write_atomically(path, [&](AtomicFile& file) {
    const auto length = static_cast<std::uint64_t>(header.size());
    file.write(&length, sizeof(length));
    file.write(header);
    for (const auto& [entry, tensor] : placed) {
      detail::write_elements(file, entry.name, tensor);
    }
  });
}

/// Reads a safetensors file of any origin. The tensors own their memory, lie on the CPU, and come in order of name.
///
/// @throws rino::Error naming the file, the tensor and the fault for a file that is absent, truncated, too long, or
///         damaged, for overlapping tensors and gaps between them, and for a type that `write_safetensors` refuses.
inline Safetensors read_safetensors(const std::filesystem::path& path) {
  std::error_code error_code;
  const std::filesystem::file_status status = std::filesystem::status(path, error_code);
  require(std::filesystem::exists(status), "there is no file ", path, ": check the path");
  require(std::filesystem::is_regular_file(status), path, " is no ordinary file: give the path of a safetensors file");
  const std::uintmax_t size = std::filesystem::file_size(path, error_code);
  std::ifstream file(path, std::ios::binary);
  require(file.is_open() && !error_code, "cannot open ", path, ": make sure that you may read it");
  try {
    return detail::read_safetensors_stream(file, size);
  } catch (const Error& error) {
    fail("cannot read ", path, " as safetensors: ", error.what(),
         ". It is damaged or of another format: copy or write it again");
  } catch (const c10::Error& error) {
    fail("cannot read ", path, " as safetensors (", error.what_without_backtrace(), "): it needs ", size,
         " bytes of memory, use a machine that has them");
  }
}

}  // namespace rino
