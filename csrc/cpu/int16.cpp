// Products of rows rounded to int16, for processors with AVX2: twice the multiply-adds of float32 in an instruction,
// and exact, so that rounding the rows is all of the error. Nothing from the standard library's templates in this file;
// see isa.hpp.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "isa_table.hpp"
#include "product_loop.hpp"

namespace stcanet::STCANET_ISA {
namespace {

struct Tile {
    using Element = std::int16_t;
    static constexpr std::size_t kRows = 6, kCols = 16, kLane = 2;

    // Sums stay below 2^31, whatever the number of columns: |a . b| <= |a| |b|, for any part of the rows as well.
    static void multiply(const Element* a, const Element* b, std::size_t depth, float* c, bool accumulate) {
        __m256i sum[kRows][2] = {};
#pragma GCC unroll 2
        for (std::size_t p = 0; p < depth; p += kLane, a += kLane * kTileWidth, b += kLane * kTileWidth) {
            const __m256i b0 = load(b), b1 = load(b + 16);
#pragma GCC unroll 6
            for (std::size_t i = 0; i < kRows; ++i) {
                const __m256i pair = broadcast(a + kLane * i);
                add(sum[i][0], _mm256_madd_epi16(pair, b0));
                add(sum[i][1], _mm256_madd_epi16(pair, b1));
            }
        }
#pragma GCC unroll 6
        for (std::size_t i = 0; i < kRows; ++i)
#pragma GCC unroll 2
            for (std::size_t v = 0; v < 2; ++v) store(sum[i][v], c + i * kBlock + 8 * v, accumulate);
    }

    // In place and in this order: left to itself, the compiler needs more registers than there are.
    static void add(__m256i& sum, __m256i x) { asm volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(x)); }

    static __m256i load(const Element* x) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(x)); }

    static __m256i broadcast(const Element* pair) {
        std::int32_t both;
        __builtin_memcpy(&both, pair, sizeof both);
        return _mm256_set1_epi32(both);
    }

    static void store(__m256i sum, float* c, bool accumulate) {
        const __m256 unit = _mm256_set1_ps(static_cast<float>(1.0 / (kInt16Scale * kInt16Scale)));
        const __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), unit);
        _mm256_storeu_ps(c, accumulate ? _mm256_add_ps(_mm256_loadu_ps(c), value) : value);
    }
};

void pack(const float* x, double scale, const double* centre, std::size_t depth, std::size_t r, void* tile) {
    auto* out = static_cast<std::int16_t*>(tile) + Tile::kLane * r;
    const __m256d factor = _mm256_set1_pd(scale), steps = _mm256_set1_pd(kInt16Scale);
    std::size_t p = 0;
    for (; p + 4 <= depth; p += 4, out += 2 * Tile::kLane * kTileWidth) {
        const __m256d scaled = _mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(x + p)), factor);
        const __m256d seen = _mm256_sub_pd(scaled, _mm256_loadu_pd(centre + p));
        const __m128i rounded = _mm256_cvtpd_epi32(_mm256_mul_pd(seen, steps));
        const std::int64_t four = _mm_cvtsi128_si64(_mm_packs_epi32(rounded, rounded));
        const std::int32_t first = static_cast<std::int32_t>(four), second = static_cast<std::int32_t>(four >> 32);
        __builtin_memcpy(out, &first, sizeof first);
        __builtin_memcpy(out + Tile::kLane * kTileWidth, &second, sizeof second);
    }
}

}  // namespace

void fill_int16(Kernels& table) {
    table.screen = {Rounding::int16, 256, 4, 256, sizeof(Tile::Element), pack, multiply_tiles<Tile>};
}

}  // namespace stcanet::STCANET_ISA
