#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include <rino/core/error.hpp>
#include <rino/io/atomic_file.hpp>
#include <rino/io/detail/json.hpp>
#include <rino/io/safetensors.hpp>

#include "catch.hpp"

namespace fs = std::filesystem;
using rino::Error;
using rino::read_safetensors;
using rino::Safetensors;
using rino::write_safetensors;

namespace {

/// A folder of its own for each test case, removed at the end.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "rino-test-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { fs::remove_all(path_); }

  fs::path operator/(const std::string& name) const { return path_ / name; }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(path_)) {
      found.push_back(entry.path().filename().string());
    }
    return found;
  }

 private:
  fs::path path_;
};

void put_bytes(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string get_bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A file by the format's definition, written without the library.
std::string file_of(const std::string& header, const std::string& data) {
  std::string bytes;
  for (unsigned shift = 0; shift < 64; shift += 8) {
    bytes += static_cast<char>((std::uint64_t{header.size()} >> shift) & 0xFF);
  }
  return bytes + header + data;
}

std::string elements_of(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous();
  return {static_cast<const char*>(dense.const_data_ptr()), dense.nbytes()};
}

/// Equal in type, shape and every bit: NaNs and signed zeros count.
bool same_bits(const at::Tensor& left, const at::Tensor& right) {
  return left.scalar_type() == right.scalar_type() && left.sizes() == right.sizes() &&
         elements_of(left) == elements_of(right);
}

const std::vector<std::pair<std::string, at::ScalarType>>& all_types() {
  static const std::vector<std::pair<std::string, at::ScalarType>> types{
      {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf}, {"BF16", at::kBFloat16}, {"I64", at::kLong},
      {"I32", at::kInt},    {"I16", at::kShort}, {"I8", at::kChar},  {"U8", at::kByte},       {"BOOL", at::kBool}};
  return types;
}

/// A tensor whose bytes are drawn at random, so that NaNs with payloads and denormals occur.
at::Tensor random_bits(at::IntArrayRef shape, at::ScalarType type, std::mt19937_64& random) {
  at::Tensor tensor = at::empty(shape, at::TensorOptions(type));
  auto* const bytes = static_cast<unsigned char*>(tensor.mutable_data_ptr());
  for (std::size_t i = 0; i < tensor.nbytes(); ++i) {
    bytes[i] = static_cast<unsigned char>(type == at::kBool ? random() % 2 : random() % 256);
  }
  return tensor;
}

using Catch::Matchers::StartsWith;
#if __has_include(<catch2/catch_all.hpp>)
using Catch::Matchers::ContainsSubstring;
#else
Catch::Matchers::StdString::ContainsMatcher ContainsSubstring(const std::string& text) {
  return Catch::Matchers::Contains(text);
}
#endif

}  // namespace

TEST_CASE("tensors come back from a safetensors file bit by bit", "[io][safetensors]") {
  const Folder folder;
  const fs::path path = folder / "tensors.safetensors";
  std::mt19937_64 random(1);

  SECTION("of every type, in every kind of shape") {
    Safetensors content;
    for (const auto& [name, type] : all_types()) {
      content.tensors.emplace_back(name + " scalar", random_bits({}, type, random));
      content.tensors.emplace_back(name + " vector", random_bits({257}, type, random));
      content.tensors.emplace_back(name + " cube", random_bits({3, 1, 5}, type, random));
      content.tensors.emplace_back(name + " empty", random_bits({0}, type, random));
      content.tensors.emplace_back(name + " empty matrix", random_bits({4, 0, 2}, type, random));
    }
    write_safetensors(path, content);
    const Safetensors back = read_safetensors(path);
    REQUIRE(back.tensors.size() == content.tensors.size());
    for (const auto& [name, tensor] : content.tensors) {
      INFO(name);
      CHECK(same_bits(back.at(name), tensor));
    }
    CHECK(std::is_sorted(back.tensors.begin(), back.tensors.end(),
                         [](const auto& left, const auto& right) { return left.first < right.first; }));
  }

  SECTION("with not a number, infinities, signed zeros and denormals") {
    const double infinity = std::numeric_limits<double>::infinity();
    const at::Tensor special =
        at::tensor({std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::quiet_NaN(), infinity,
                    -infinity, -0.0, std::numeric_limits<double>::denorm_min()});
    write_safetensors(path, {{{"special", special}}, {}});
    CHECK(same_bits(read_safetensors(path).at("special"), special));
  }

  SECTION("with any strides, and the file holds them in C order") {
    const at::Tensor base = at::arange(24, at::kFloat).reshape({4, 6});
    Safetensors content;
    content.tensors = {{"transposed", base.t()},
                       {"every other", base.slice(1, 1, 6, 2)},
                       {"expanded", base.slice(1, 0, 1).expand({4, 3})},
                       {"with gradient", base.clone().requires_grad_()},
                       {"strided negated view", at::imag(at::complex(base, base).conj())},
                       {"negated view", at::_neg_view(base)}};
    REQUIRE(content.tensors[4].second.is_neg());
    REQUIRE((content.tensors[5].second.is_neg() && content.tensors[5].second.is_contiguous()));
    write_safetensors(path, content);
    const Safetensors back = read_safetensors(path);
    for (const auto& [name, tensor] : content.tensors) {
      INFO(name);
      CHECK(at::equal(back.at(name), tensor));
      CHECK(back.at(name).is_contiguous());
      CHECK_FALSE(back.at(name).requires_grad());
    }
    CHECK(back.at("negated view").index({1, 2}).item<float>() == -8.0F);
  }

  SECTION("and own their memory") {
    const at::Tensor shared = at::arange(6);
    write_safetensors(path, {{{"a", shared}, {"b", shared}}, {}});
    const Safetensors back = read_safetensors(path);
    fs::remove(path);
    back.at("a").fill_(9);
    CHECK(at::equal(back.at("b"), shared));
  }

  SECTION("of an empty file") {
    write_safetensors(path, {});
    CHECK(get_bytes(path) == file_of("{}      ", ""));
    CHECK(read_safetensors(path).tensors.empty());
  }
}

TEST_CASE("names and metadata of a safetensors file are any text", "[io][safetensors]") {
  const Folder folder;
  const fs::path path = folder / "text.safetensors";
  std::string everything;
  for (char c = 0; c >= 0 && c < 127; ++c) {
    everything += c;
  }
  everything += "\x7F\u00E9\u4E2D\U0001F98F\uFFFF\U0010FFFF";
  Safetensors content;
  content.tensors = {{everything, at::arange(2)}, {"", at::arange(3)}, {"\"quoted\\\"", at::arange(4)}};
  content.metadata = {{everything, everything}, {"", ""}, {"recipe", R"({"width": 128, "name": "nano"})"}};
  write_safetensors(path, content);
  const Safetensors back = read_safetensors(path);
  CHECK(back.metadata == content.metadata);
  for (const auto& [name, tensor] : content.tensors) {
    CHECK(at::equal(back.at(name), tensor));
  }
}

TEST_CASE("a safetensors file is laid out as the format defines it", "[io][safetensors]") {
  const Folder folder;
  const fs::path path = folder / "layout.safetensors";
  Safetensors content;
  content.tensors = {{"b", at::tensor({1, 2}, at::kByte)},
                     {"c", at::tensor({1.0, -2.0}, at::kFloat).reshape({1, 2})},
                     {"a", at::tensor({3}, at::kByte)},
                     {"d", at::tensor(-1, at::kLong).reshape({})}};
  content.metadata = {{"format", "pt"}};
  write_safetensors(path, content);
  // Wide types first, then by name; padded to 8 bytes.
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"d":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
      R"("c":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},"a":{"dtype":"U8","shape":[1],"data_offsets":[16,17]},)"
      R"("b":{"dtype":"U8","shape":[2],"data_offsets":[17,19]}})";
  const std::string padding((8 - header.size() % 8) % 8, ' ');
  const std::string minus_one(8, '\xFF');
  const std::string floats("\0\0\x80\x3F\0\0\0\xC0", 8);
  CHECK(get_bytes(path) == file_of(header + padding, minus_one + floats + "\x03\x01\x02"));

  std::swap(content.tensors.front(), content.tensors.back());
  write_safetensors(folder / "again.safetensors", content);
  CHECK(get_bytes(folder / "again.safetensors") == get_bytes(path));
}

TEST_CASE("a safetensors file of another writer is read", "[io][safetensors]") {
  const Folder folder;
  const fs::path path = folder / "foreign.safetensors";

  SECTION("with tensors in any order, white space and every escape") {
    // Squares as float32 at bytes 4 to 28, the float16 numbers 1 and -2 before them.
    std::string data("\x00\x3C\x00\xC0", 4);
    for (int i = 0; i < 6; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(i * i));
      for (unsigned shift = 0; shift < 32; shift += 8) {
        data += static_cast<char>((bits >> shift) & 0xFF);
      }
    }
    put_bytes(path, file_of("{ \"squares\" :\t{\"shape\":[2 , 3],\r\n\"data_offsets\":[4,28],\"dtype\":\"F32\"},"
                            R"("\u0068\"\\\/\b\f\n\r\t\u00e9\uD83E\uDD8f\u0000":)"
                            R"({"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
                            R"("__metadata__":{"\u006b":"\ud834\udd1e"}})"
                            "   ",
                            data));
    const Safetensors content = read_safetensors(path);
    REQUIRE(content.tensors.size() == 2);
    CHECK(at::equal(content.at("squares"), at::arange(6).square().to(at::kFloat).reshape({2, 3})));
    const std::string name = std::string("h\"\\/\b\f\n\r\t\u00E9\U0001F98F") + '\0';
    CHECK(at::equal(content.at(name), at::tensor({1.0, -2.0}).to(at::kHalf)));
    CHECK(content.metadata == std::map<std::string, std::string>{{"k", "\U0001D11E"}});
  }

  SECTION("with empty tensors between others") {
    put_bytes(path, file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                            R"("b":{"dtype":"F64","shape":[0,9223372036854775],"data_offsets":[2,2]},)"
                            R"("c":{"dtype":"I8","shape":[1],"data_offsets":[2,3]}})",
                            "\x01\x02\x03"));
    const Safetensors content = read_safetensors(path);
    CHECK(at::equal(content.at("c"), at::tensor({3}, at::kChar)));
    CHECK(content.at("b").sizes() == at::IntArrayRef({0, 9223372036854775}));
  }
}

TEST_CASE("a tensor that is not there is named with its closest names", "[io][safetensors]") {
  Safetensors content;
  content.tensors = {{"blocks.0.attention.weight", at::ones({1})},
                     {"blocks.1.attention.weight", at::ones({1})},
                     {"head.bias", at::ones({1})},
                     {"norm.bias", at::ones({1})}};
  CHECK(content.contains("head.bias"));
  CHECK_FALSE(content.contains("head.biass"));
  const std::string message = error_of([&] { content.at("blocks.1.atention.weight"); });
  CHECK_THAT(message, StartsWith("there is no tensor \"blocks.1.atention.weight\" among the 4 of the file, the closest "
                                 "names being \"blocks.1.attention.weight\", \"blocks.0.attention.weight\", "));
  CHECK_THAT(message, ContainsSubstring("architecture"));
  CHECK_THAT(error_of([&] { Safetensors().at("x"); }), ContainsSubstring("among the 0 of the file:"));
}

TEST_CASE("a damaged or foreign safetensors file is an error that says what is wrong", "[io][safetensors]") {
  const Folder folder;
  const fs::path path = folder / "damaged.safetensors";
  const auto entry = [](const std::string& shape, const std::string& offsets) {
    return R"({"x":{"dtype":"F32","shape":[)" + shape + R"(],"data_offsets":[)" + offsets + "]}}";
  };
  const std::string eight(8, '\0');
  std::string many_ones = "1";
  for (int i = 0; i < 64; ++i) {
    many_ones += ",1";
  }
  struct Case {
    std::string bytes;
    std::string fault;
  };
  const std::vector<Case> cases{
      {"", "0 bytes"},
      {"{}", "2 bytes"},
      {"<!DOCTYPE html><html></html>", "announce a header of 5789751444030890300 bytes"},
      {std::string(8, '\xFF') + "{}", "announce a header of 18446744073709551615 bytes"},
      {file_of("{}", "").substr(0, 9), "announce a header of 2 bytes, but 1 follow"},
      {file_of("", ""), "does not begin with '{'"},
      {file_of(" {}", ""), "does not begin with '{'"},
      {file_of("[]", ""), "does not begin with '{'"},
      {file_of("{} x", ""), "byte 3 of the JSON text is 'x' where there should be the end"},
      {file_of("{", ""), "the JSON text ends at byte 1"},
      {file_of("{\"x\":1}", ""), "tensor \"x\": byte 5 of the JSON text is '1' where there should be an object"},
      {file_of("{\"x\":{}}", ""), "missing"},
      {file_of("{x:{}}", ""), "should be a string"},
      {file_of("{\"x\"}", ""), "should be ':'"},
      {file_of("{\"__metadata__\":{\"a\":\"b\"},}", ""), "should be a string"},
      {file_of("{\"__metadata__\":{\"a\":\"b\"", ""), "should be ',' or '}'"},
      {file_of("{\"__metadata__\":{\"a\":1}}", ""), "should be a string"},
      {file_of("{\"__metadata__\":null}", ""), "should be an object"},
      {file_of("{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", ""), "the key \"a\" appears twice"},
      {file_of("{\"a\xFF\":{}}", ""), "byte 3 of the JSON text is the byte 255 where there should be more of a string"},
      {file_of("{\"a\xED\xA0\x80\":{}}", ""), "UTF-8"},
      {file_of("{\"a\xC0\x80\":{}}", ""), "UTF-8"},
      {file_of("{\"a\xE2\x82\":{}}", ""), "UTF-8"},
      {file_of("{\"a\n\":{}}", ""), "escape in place of a control character"},
      {file_of("{\"\\x\":{}}", ""), "after a backslash"},
      {file_of("{\"\\u12", ""), "hexadecimal"},
      {file_of("{\"\\u12G4\":{}}", ""), "hexadecimal"},
      {file_of("{\"\\u+123\":{}}", ""), "hexadecimal"},
      {file_of("{\"\\uD800\":{}}", ""), "surrogate"},
      {file_of("{\"\\uDC00\":{}}", ""), "surrogate"},
      {file_of("{\"\\uD800\\u0041\":{}}", ""), "surrogate"},
      {file_of(entry("2", "0,8").substr(0, 20), eight), "the JSON text ends"},
      {file_of(entry("-2", "0,8"), eight), "should be a whole number"},
      {file_of(entry("2.0", "0,8"), eight), "should be a whole number"},
      {file_of(entry("2e0", "0,8"), eight), "should be a whole number"},
      {file_of(entry("02", "0,8"), eight), "should be a whole number"},
      {file_of(entry("true", "0,8"), eight), "should be a whole number"},
      {file_of(entry("2,", "0,8"), eight), "should be a whole number"},
      {file_of(entry("18446744073709551616", "0,8"), eight), "should be a whole number"},
      {file_of(entry("18446744073709551615", "0,8"), eight), "too large"},
      {file_of(entry("9223372036854775807,2", "0,8"), eight), "more elements than any memory"},
      {file_of(entry("4294967296,4294967296", "0,0"), ""), "more elements than any memory"},
      {file_of(entry("4294967296,4294967296,0", "0,0"), ""), "more elements than any memory"},
      {file_of(entry("2305843009213693951", "0,9223372036854775804"), eight), "the file was cut"},
      {file_of(entry(many_ones, "0,4"), eight), "more than 64 dimensions"},
      {file_of(entry("2", "0,4"), eight), "dtype and shape make 8 bytes but data_offsets are 0 and 4"},
      {file_of(entry("2", "8,0"), eight), "data_offsets are 8 and 0"},
      {file_of(entry("2", "0"), eight), "missing"},
      {file_of(entry("2", "0,8,8"), eight), "more than two numbers"},
      {file_of(entry("2", "8,16"), eight + eight), "tensor \"x\" begins at byte 8 of the data"},
      {file_of(entry("2", "0,8"), "1234567"), "tensor \"x\" ends at byte 8 of the data, of which there are only 7"},
      {file_of(entry("2", "0,8"), eight + "z"), "1 bytes follow the last tensor"},
      {file_of("{}", "z"), "1 bytes follow the last tensor"},
      {file_of(R"({"x":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}})", eight), "\"C64\" is none of BOOL, U8"},
      {file_of(R"({"x":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", eight), "appears twice"},
      {file_of(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})", eight), "the key \"more\""},
      {file_of(R"({"x":{"dtype":"I8","shape":[0],"data_offsets":[0,0]},"x":{"dtype":"I8","shape":[0],)"
               R"("data_offsets":[0,0]}})",
               ""),
       "the key \"x\" appears twice"},
      {file_of(R"({"x":{"dtype":"I8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"I8","shape":[4],)"
               R"("data_offsets":[3,7]}})",
               "1234567"),
       "tensor \"y\" begins at byte 3 of the data but the tensors before it end at byte 4"},
      {file_of(R"({"x":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})", std::string("\0\1\7", 3)),
       "element 2 of tensor \"x\" is 7"},
  };
  for (const auto& [bytes, fault] : cases) {
    put_bytes(path, bytes);
    const std::string message = error_of([&] { read_safetensors(path); });
    CHECK_THAT(message, ContainsSubstring(fault));
    CHECK_THAT(message, StartsWith("cannot read \"" + path.string() + "\""));
    CHECK_THAT(message, ContainsSubstring("copy or write it again"));
  }
  CHECK_THAT(error_of([&] { read_safetensors(folder / "absent"); }), StartsWith("there is no file"));
  CHECK_THAT(error_of([&] { read_safetensors(path.parent_path()); }), ContainsSubstring("no ordinary file"));
}

TEST_CASE("no damage to a safetensors file makes its reading crash", "[io][safetensors]") {
  const Folder folder;
  const fs::path path = folder / "fuzz.safetensors";
  std::mt19937_64 random(7);
  Safetensors content;
  content.tensors = {{"weight", random_bits({2, 3}, at::kFloat, random)},
                     {"flags", random_bits({5}, at::kBool, random)},
                     {"scalar", random_bits({}, at::kLong, random)},
                     {"empty", random_bits({0, 7}, at::kHalf, random)},
                     {"\u00E9\n", random_bits({1}, at::kBFloat16, random)}};
  content.metadata = {{"recipe", "{\"width\": 128}\n\U0001F98F"}};
  write_safetensors(path, content);
  const std::string whole = get_bytes(path);
  const std::size_t header_end = whole.size() - (24 + 5 + 8 + 2);

  // Whatever is read has to be usable: add up all elements.
  const auto survives = [&](const std::string& bytes) {
    put_bytes(path, bytes);
    try {
      for (const auto& [name, tensor] : read_safetensors(path).tensors) {
        tensor.to(at::kDouble).sum().item<double>();
      }
    } catch (const Error&) {
      return false;
    }
    return true;
  };

  REQUIRE(survives(whole));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    INFO("cut to " << length);
    CHECK_FALSE(survives(whole.substr(0, length)));
  }

  int read = 0;
  for (int trial = 0; trial < 6000; ++trial) {
    std::string bytes = whole;
    // Most of the flips in the header, where they can do harm.
    const std::size_t last = trial % 4 == 0 ? whole.size() : header_end;
    const std::size_t flips = 1 + random() % 3;
    for (std::size_t flip = 0; flip < flips; ++flip) {
      const std::size_t at = random() % last;
      bytes[at] = static_cast<char>(trial % 2 == 0 ? random() % 256 : "0123456789,[]{}\":\\u"[random() % 19]);
    }
    read += survives(bytes) ? 1 : 0;
  }
  // Flips within names, metadata and elements leave a valid file; others do not.
  CHECK(read > 100);
  CHECK(read < 5000);
}

TEST_CASE("what cannot be written as safetensors is refused and leaves no file", "[io][safetensors]") {
  const Folder folder;
  const fs::path path = folder / "refused.safetensors";
  const auto refusal = [&](const Safetensors& content) {
    const std::string message = error_of([&] { write_safetensors(path, content); });
    CHECK_THAT(message, StartsWith("cannot write \"" + path.string() + "\": "));
    CHECK(folder.names().empty());
    return message;
  };
  const at::Tensor one = at::ones({1});
  CHECK_THAT(refusal({{{"z", at::ones({1}, at::kComplexFloat)}}, {}}),
             ContainsSubstring("tensor \"z\" is of type ComplexFloat: convert it to one of BOOL, U8"));
  CHECK_THAT(refusal({{{"z", at::Tensor()}}, {}}), ContainsSubstring("tensor \"z\" is undefined"));
  CHECK_THAT(refusal({{{"z", one.to_sparse()}}, {}}), ContainsSubstring("tensor \"z\" is sparse"));
  CHECK_THAT(refusal({{{"z", at::empty({2}, at::TensorOptions(at::kMeta))}}, {}}),
             ContainsSubstring("tensor \"z\" cannot be read"));
  CHECK_THAT(refusal({{{"z", one.reshape(std::vector<std::int64_t>(65, 1))}}, {}}), ContainsSubstring("65 dimensions"));
  CHECK_THAT(refusal({{{"z", one}, {"z", one}}, {}}), ContainsSubstring("two tensors are called \"z\""));
  CHECK_THAT(refusal({{{"__metadata__", one}}, {}}), ContainsSubstring("a tensor is called __metadata__"));
  CHECK_THAT(refusal({{{"z", one}, {"\xFF", one}}, {}}), ContainsSubstring("the name of tensor number 1 is not UTF-8"));
  CHECK_THAT(refusal({{}, {{"\xFF", ""}}}), ContainsSubstring("the metadata keys are not UTF-8"));
  CHECK_THAT(refusal({{}, {{"recipe", "\xFF"}}}), ContainsSubstring("the metadata \"recipe\" are not UTF-8"));
  CHECK_THAT(refusal({{}, {{"recipe", std::string(100'000'001, 'x')}}}), ContainsSubstring("shorten the metadata"));
}

TEST_CASE("a file is written whole or not at all", "[io][atomic]") {
  const Folder folder;
  const fs::path path = folder / "file";

  SECTION("with ordinary access rights, in the place of an earlier one") {
    put_bytes(path, "old and longer");
    rino::write_atomically(path, [](rino::AtomicFile& file) {
      file.write("ne");
      file.write("w", 1);
    });
    CHECK(get_bytes(path) == "new");
    CHECK(folder.names() == std::vector<std::string>{"file"});
    put_bytes(folder / "usual", "");
    CHECK(fs::status(path).permissions() == fs::status(folder / "usual").permissions());
  }

  SECTION("when the writing code throws, the earlier file stays") {
    put_bytes(path, "old");
    CHECK_THROWS_AS(rino::write_atomically(path,
                                           [](rino::AtomicFile& file) {
                                             file.write("half");
                                             throw std::logic_error("stop");
                                           }),
                    std::logic_error);
    CHECK(get_bytes(path) == "old");
    CHECK(folder.names() == std::vector<std::string>{"file"});
  }

  SECTION("under a relative name without a folder") {
    const fs::path before = fs::current_path();
    fs::current_path(path.parent_path());
    rino::write_atomically("file", [](rino::AtomicFile& file) { file.write("here"); });
    fs::current_path(before);
    CHECK(get_bytes(path) == "here");
  }

  SECTION("beside a temporary file that a killed process left") {
    put_bytes(folder / (".rino-" + std::to_string(::getpid()) + "@" + rino::detail::machine_name() + "-0.tmp"),
              "stale");
    rino::write_atomically(path, [](rino::AtomicFile& file) { file.write("new"); });
    CHECK(get_bytes(path) == "new");
    CHECK(folder.names().size() == 2);
  }

  SECTION("never in the place of a folder or a device, never where there is no folder") {
    const auto nothing = [](rino::AtomicFile& file) { file.write("x"); };
    const auto refusal = [&](const fs::path& target) {
      return error_of([&] { rino::write_atomically(target, nothing); });
    };
    CHECK_THAT(refusal(folder / ""), ContainsSubstring("no file name"));
    CHECK_THAT(refusal(path.parent_path()), ContainsSubstring("no ordinary file"));
    CHECK_THAT(refusal("/dev/null"), ContainsSubstring("no ordinary file"));
    CHECK_THAT(refusal(folder / "absent/file"), ContainsSubstring("folder does not exist: create it"));
    CHECK_THAT(refusal(folder / std::string(300, 'x')), ContainsSubstring("cannot write"));
    CHECK(folder.names().empty());
  }
}

TEST_CASE("a disk that fills leaves no file and says so", "[io][safetensors][atomic]") {
  const Folder folder;
  const fs::path path = folder / "large.safetensors";

  SECTION("at a limit on the size of files") {
    put_bytes(path, "earlier");
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    rlimit limit = before;
    limit.rlim_cur = 4096;
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
    const std::string message = error_of([&] { write_safetensors(path, {{{"large", at::zeros({4096})}}, {}}); });
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
    CHECK_THAT(message, StartsWith("cannot write \"" + path.string() + "\" ("));
    CHECK_THAT(message, ContainsSubstring("ulimit -f"));
    CHECK(folder.names() == std::vector<std::string>{"large.safetensors"});
    CHECK(get_bytes(path) == "earlier");
  }

  SECTION("at a full device") {
    const int full = ::open("/dev/full", O_WRONLY);
    if (full >= 0) {  // Linux has one.
      const std::string message = error_of([&] { rino::detail::write_all(full, "x", 1, path); });
      ::close(full);
      CHECK_THAT(message, StartsWith("cannot write \"" + path.string() + "\" (No space left on device): make room"));
    }
  }
}
