// Looks into the kernels, which other files take as they are.
#undef RINO_KERNELS_ELSEWHERE

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

#include <rino/nn/bf16/kernels.hpp>

#include "catch.hpp"

#ifdef RINO_HAS_BF16

namespace {

using rino::bf16::Unit;
using rino::fused::Index;

std::vector<float> normal(Index count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> draw;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) {
    value = draw(engine);
  }
  return values;
}

struct Sizes {
  Index rows, columns, depth;
};

enum class Factor { rows, packed, packed_transposed };

namespace dots {
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,prefer-vector-width=512")
#define RINO_UNIT avx512_bf16
#include "bf16_multiply.inc"
#undef RINO_UNIT
#pragma GCC pop_options
}  // namespace dots

namespace tiles {
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,amx-tile,amx-bf16,prefer-vector-width=512")
#define RINO_UNIT amx
#include "bf16_multiply.inc"
#undef RINO_UNIT
#pragma GCC pop_options
}  // namespace tiles

void multiply(Unit unit, const Sizes& s, const float* a, bool transposed, const float* b, Factor kind, float scale,
              float* c, Index c_row, const float* bias, bool accumulate) {
  if (unit == Unit::dots) {
    dots::multiply(s, a, transposed, b, kind, scale, c, c_row, bias, accumulate);
  } else {
    const rino::simd::amx::Tiles configured;
    tiles::multiply(s, a, transposed, b, kind, scale, c, c_row, bias, accumulate);
  }
}

/// Whether this machine has it; a line says so where it does not.
bool has(Unit unit) {
  if (!rino::bf16::runs(unit)) {
    WARN("not run: this machine has no " << rino::to_string(unit));
    return false;
  }
  return true;
}

/// bfloat16 nearest to it, the even one of two.
float rounded(float value) {
  std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  bits += 0x7fffU + ((bits >> 16) & 1U);
  return std::bit_cast<float>(bits & 0xffff0000U);
}

}  // namespace

TEST_CASE("products in bfloat16 are those of float32 within its rounding, whatever the sizes and strides", "[bf16]") {
  const Unit unit = GENERATE(Unit::dots, Unit::tiles);
  if (!has(unit)) {
    return;
  }
  const Sizes s =
      GENERATE(Sizes{1, 16, 16}, Sizes{5, 48, 33}, Sizes{32, 32, 32}, Sizes{37, 64, 100}, Sizes{130, 272, 520},
               Sizes{200, 256, 1024}, Sizes{64, 1024, 256}, Sizes{16, 16, 7}, Sizes{48, 304, 5});
  const bool transposed = GENERATE(false, true);
  const Factor kind = GENERATE(Factor::rows, Factor::packed, Factor::packed_transposed);
  const bool accumulate = GENERATE(false, true);
  const float scale = kind == Factor::packed_transposed ? 0.3F : 1.0F;
  const std::vector<float> a = normal(s.rows * s.depth, 1);
  const std::vector<float> b = normal(s.depth * s.columns, 2);
  const std::vector<float> bias = normal(s.columns, 3);
  const Index c_row = s.columns + 16;  // what lies between the rows must stay
  const std::vector<float> before = normal(s.rows * c_row, 4);
  std::vector<float> c = before;
  multiply(unit, s, a.data(), transposed, b.data(), kind, scale, c.data(), c_row, accumulate ? nullptr : bias.data(),
           accumulate);
  double worst = 0;
  for (Index m = 0; m < s.rows; ++m) {
    for (Index n = 0; n < c_row; ++n) {
      const auto place = static_cast<std::size_t>(m * c_row + n);
      if (n >= s.columns) {
        REQUIRE(c[place] == before[place]);
        continue;
      }
      double sum = accumulate ? before[place] : bias[static_cast<std::size_t>(n)];
      double squares = 1;
      for (Index k = 0; k < s.depth; ++k) {
        const double x = a[static_cast<std::size_t>(transposed ? k * s.rows + m : m * s.depth + k)];
        const double y =
            scale *
            b[static_cast<std::size_t>(kind == Factor::packed_transposed ? n * s.depth + k : k * s.columns + n)];
        sum += x * y;
        squares += x * x * y * y;
      }
      worst = std::max(worst, std::abs(sum - c[place]) / std::sqrt(squares));
    }
  }
  // Two factors rounded to 8 bits: at most 2^-8 of a product, of many products less.
  CHECK(worst < 0.02);
}

TEST_CASE("products of whole numbers up to 256 are exact in bfloat16", "[bf16]") {
  const Unit unit = GENERATE(Unit::dots, Unit::tiles);
  if (!has(unit)) {
    return;
  }
  const Sizes s{40, 48, 70};
  std::vector<float> a(static_cast<std::size_t>(s.rows * s.depth));
  std::vector<float> b(static_cast<std::size_t>(s.depth * s.columns));
  std::mt19937 engine(1);
  for (std::vector<float>* values : {&a, &b}) {
    for (float& value : *values) {
      value = static_cast<float>(engine() % 513) - 256.0F;
    }
  }
  std::vector<float> c(static_cast<std::size_t>(s.rows * s.columns));
  multiply(unit, s, a.data(), false, b.data(), Factor::packed, 1.0F, c.data(), s.columns, nullptr, false);
  bool exact = true;
  for (Index m = 0; m < s.rows; ++m) {
    for (Index n = 0; n < s.columns; ++n) {
      double sum = 0;
      for (Index k = 0; k < s.depth; ++k) {
        sum += static_cast<double>(a[static_cast<std::size_t>(m * s.depth + k)]) *
               b[static_cast<std::size_t>(k * s.columns + n)];
      }
      exact = exact && sum == c[static_cast<std::size_t>(m * s.columns + n)];
    }
  }
  CHECK(exact);
}

TEST_CASE("products by AVX512-BF16 have the bits of its instruction, said one number at a time", "[bf16]") {
  if (!has(Unit::dots)) {
    return;
  }
  const Sizes s = GENERATE(Sizes{1, 16, 2}, Sizes{7, 48, 34}, Sizes{29, 32, 600}, Sizes{140, 304, 70});
  const bool accumulate = GENERATE(false, true);
  const std::vector<float> a = normal(s.rows * s.depth, 1);
  const std::vector<float> b = normal(s.depth * s.columns, 2);
  std::vector<float> c = normal(s.rows * s.columns, 3);
  std::vector<float> expected = c;
  multiply(Unit::dots, s, a.data(), false, b.data(), Factor::packed, 1.0F, c.data(), s.columns, nullptr, accumulate);
  for (Index m = 0; m < s.rows; ++m) {
    for (Index n = 0; n < s.columns; ++n) {
      const auto product = [&](Index k, float sum) {
        return std::fma(rounded(a[static_cast<std::size_t>(m * s.depth + k)]),
                        rounded(b[static_cast<std::size_t>(k * s.columns + n)]), sum);
      };
      float& sum = expected[static_cast<std::size_t>(m * s.columns + n)];
      sum = accumulate ? sum : 0.0F;
      for (Index k = 0; k < s.depth; k += 2) {
        sum = product(k, product(k + 1, sum));  // the second of a pair comes first
      }
    }
  }
  CHECK(c == expected);
}

TEST_CASE("a unit for bfloat16 is taken only where it is faster than float32", "[bf16]") {
  const Unit best = rino::bf16::best_unit();
  CHECK(rino::bf16::runs(best));
  CHECK(rino::bf16::supported() == (best != Unit::none));
  if (std::getenv("RINO_BF16") == nullptr) {
    CHECK((best == Unit::tiles) == rino::bf16::runs(Unit::tiles));
    CHECK((best != Unit::dots || __builtin_cpu_is("amd") != 0));
  }
}

#endif
