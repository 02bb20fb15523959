// The float32 inner loops, compiled once per instruction set: STCANET_ISA names the namespace and STCANET_LANES the
// float lanes of a register. Vector extensions instead of intrinsics: one text serves SSE2, AVX2, AVX-512 and NEON.
// Fused multiply-add is welcome here: the error bound of the screen holds with and without it.
// Nothing from the standard library's templates in this file; see isa.hpp.
#include <cstddef>
#include <cstdint>

#include "isa_table.hpp"

namespace stcanet::STCANET_ISA {
namespace {

constexpr int kLanes = STCANET_LANES;
// Registers: ROWS * 2 accumulators, 2 of b, 1 broadcast of a; of 32 with AVX-512 and 16 otherwise.
constexpr int kRows = kLanes == 16 ? 12 : kLanes == 8 ? 6 : 4;
constexpr int kVectors = 2;

typedef float Floats __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));
typedef std::int32_t Mask __attribute__((vector_size(kLanes * sizeof(float))));

void tile(const float* a, const float* b, std::size_t depth, float* c, std::size_t ldc, bool accumulate) {
    Floats sum[kRows][kVectors] = {};
    for (std::size_t p = 0; p < depth; ++p, a += kRows, b += kVectors * kLanes) {
        const Floats b0 = *reinterpret_cast<const Floats*>(b);
        const Floats b1 = *reinterpret_cast<const Floats*>(b + kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
            sum[i][0] += a[i] * b0;
            sum[i][1] += a[i] * b1;
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
            Floats* out = reinterpret_cast<Floats*>(c + static_cast<std::size_t>(i) * ldc + v * kLanes);
            *out = accumulate ? *out + sum[i][v] : sum[i][v];
        }
    }
}

bool any(const Mask& mask) {
    std::int32_t all = 0;
    for (int l = 0; l < kLanes; ++l) all |= mask[l];
    return all != 0;
}

// Hits are rare: a whole vector is passed over with one comparison.
std::size_t below(const float* keys, std::size_t n, float limit, std::uint32_t* hits) {
    std::size_t count = 0, i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        const Mask mask = *reinterpret_cast<const Floats*>(keys + i) <= limit;
        if (!any(mask)) continue;
        for (std::size_t l = i; l < i + kLanes; ++l)
            if (keys[l] <= limit) hits[count++] = static_cast<std::uint32_t>(l);
    }
    for (; i < n; ++i)
        if (keys[i] <= limit) hits[count++] = static_cast<std::uint32_t>(i);
    return count;
}

}  // namespace

void fill_tile(Kernels& table) {
    table.tile_rows = kRows;
    table.tile_cols = kVectors * kLanes;
    table.tile = tile;
    table.below = below;
}

}  // namespace stcanet::STCANET_ISA
