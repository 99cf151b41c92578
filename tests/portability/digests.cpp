// Prints digests of views of jets by every instruction set that the program has, from momenta that lie in a file, so
// that two processors can be compared bit by bit: digests make FILE | digests FILE.
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rino/jets/jets.hpp>
#include <rino/jets/toy_shower.hpp>
#include <rino/simd/target.hpp>
#include <rino/views/view_generator.hpp>

namespace {

using Index = std::int64_t;

template <typename T>
void write(std::ofstream& file, const std::vector<T>& values) {
  const std::uint64_t size = values.size();
  file.write(reinterpret_cast<const char*>(&size), sizeof size);
  file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(size * sizeof(T)));
}

template <typename T>
std::vector<T> read(std::ifstream& file) {
  std::uint64_t size = 0;
  file.read(reinterpret_cast<char*>(&size), sizeof size);
  std::vector<T> values(size);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(size * sizeof(T)));
  return values;
}

/// FNV-1a of the bits of momenta and offsets.
class Digest {
 public:
  void add(double value) { add(std::bit_cast<std::uint64_t>(value)); }
  void add(std::uint64_t bits) {
    for (int byte = 0; byte < 8; ++byte, bits >>= 8) {
      hash_ = (hash_ ^ (bits & 0xff)) * 0x100000001b3ULL;
    }
  }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
};

std::uint64_t digest(const rino::Jets<double>& jets) {
  Digest all;
  for (Index j = 0; j < jets.size(); ++j) {
    all.add(static_cast<std::uint64_t>(jets.multiplicity(j)));
    for (Index i = jets.begin(j); i < jets.end(j); ++i) {
      for (const double component : jets.constituent(i)) {
        all.add(component);
      }
    }
  }
  return all.value();
}

template <typename Algorithm>
bool print(const rino::Jets<double>& jets) {
  const std::vector<rino::Resolution> resolutions{rino::subjets(1), rino::subjets(2), rino::subjets(3),
                                                  rino::subjets(8), rino::subjets(32)};
  const auto views_by = [&](const rino::ViewOptions& options) {
    std::vector<std::uint64_t> digests;
    for (const rino::Jets<double>& view : rino::ViewGenerator<double, Algorithm>(resolutions, options)(jets)) {
      digests.push_back(digest(view));
    }
    return digests;
  };
  const std::vector<std::uint64_t> expected = views_by({.target = rino::simd::Target::baseline});
  bool same = true;
  for (const rino::simd::Target target : rino::simd::supported_targets()) {
    same = same && views_by({.target = target}) == expected;
  }
  for (std::size_t v = 0; v < resolutions.size(); ++v) {
    std::printf("%s %s %016llx\n", std::string(Algorithm::name).c_str(), resolutions[v].name().c_str(),
                static_cast<unsigned long long>(expected[v]));
  }
  return same;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string file = argv[argc - 1];
  if (argc == 3 && std::string_view(argv[1]) == "make") {
    const auto jets = rino::toy_shower<double>({.jets = 2000, .top_fraction = 0.3}, /*seed=*/5);
    std::ofstream to(file, std::ios::binary);
    std::array<std::vector<double>, 4> columns;
    std::vector<Index> offsets{0};
    for (Index j = 0; j < jets.size(); ++j) {
      for (Index i = jets.begin(j); i < jets.end(j); ++i) {
        for (std::size_t c = 0; c < 4; ++c) {
          columns[c].push_back(jets.constituent(i)[static_cast<Eigen::Index>(c)]);
        }
      }
      offsets.push_back(jets.end(j));
    }
    for (const std::vector<double>& column : columns) {
      write(to, column);
    }
    write(to, offsets);
    return to ? EXIT_SUCCESS : EXIT_FAILURE;
  }
  std::ifstream from(file, std::ios::binary);
  std::array<std::vector<double>, 4> columns;
  for (std::vector<double>& column : columns) {
    column = read<double>(from);
  }
  auto jets = rino::Jets<double>::from_columns(std::move(columns), read<Index>(from));
  const bool same = print<rino::Kt>(jets) && print<rino::CambridgeAachen>(jets) && print<rino::AntiKt>(jets);
  if (!same) {
    std::fprintf(stderr, "instruction sets of this machine differ\n");
  }
  return same ? EXIT_SUCCESS : EXIT_FAILURE;
}
