// Products of rows rounded to bfloat16 on tiles as AMX has them. `Tiles` says how: with the instructions (amx.cpp), or
// with a model of them (tests/csrc/amx_model.cpp). It has eight registers of 16 rows of 64 bytes:
//
//     begin(), end()          around all others, on the thread that uses them
//     zero<C>()
//     load<T>(memory, stride), store<T>(memory, stride)    rows are `stride` bytes apart
//     multiply<C, A, B>()     c[m, n] += sum of a[m, k, l] * b[k, n, l] over k < 16 and l < 2
//
// Nothing from the standard library's templates in this file; see isa.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "stcanet/isa.hpp"

namespace stcanet::STCANET_ISA {
namespace {

// 16 packed rows are a group, which holds them twice: as a wants them, [depth / 32, 16 rows, 32], and as b does,
// [depth / 32, 16 pairs, 16 rows, 2]. So a register is loaded from 1 KiB without gaps.
constexpr std::size_t kGroup = 16, kColumns = 32, kTileSize = kGroup * kColumns, kTileStride = 64;
constexpr std::size_t kDotStride = kBlock * sizeof(float);

template <typename Tiles, int kTile>
void start(const float* c, bool accumulate) {
    if (accumulate)
        Tiles::template load<kTile>(c, kDotStride);
    else
        Tiles::template zero<kTile>();
}

// One or two groups of either side; registers 0 to 3 hold their sums, 4 and 5 groups of a, 6 and 7 of b.
template <typename Tiles, bool kTwoRows, bool kTwoCols>
void multiply_groups(const std::uint16_t* a, const std::uint16_t* b, std::size_t depth, float* c, bool accumulate) {
    const std::size_t next = 2 * kGroup * depth;
    float *right = c + kGroup, *below = c + kGroup * kBlock, *across = below + kGroup;
    start<Tiles, 0>(c, accumulate);
    if constexpr (kTwoCols) start<Tiles, 1>(right, accumulate);
    if constexpr (kTwoRows) start<Tiles, 2>(below, accumulate);
    if constexpr (kTwoRows && kTwoCols) start<Tiles, 3>(across, accumulate);
    for (std::size_t p = 0; p < depth; p += kColumns, a += kTileSize, b += kTileSize) {
        Tiles::template load<4>(a, kTileStride);
        Tiles::template load<6>(b, kTileStride);
        Tiles::template multiply<0, 4, 6>();
        if constexpr (kTwoCols) {
            Tiles::template load<7>(b + next, kTileStride);
            Tiles::template multiply<1, 4, 7>();
        }
        if constexpr (kTwoRows) {
            Tiles::template load<5>(a + next, kTileStride);
            Tiles::template multiply<2, 5, 6>();
        }
        if constexpr (kTwoRows && kTwoCols) Tiles::template multiply<3, 5, 7>();
    }
    Tiles::template store<0>(c, kDotStride);
    if constexpr (kTwoCols) Tiles::template store<1>(right, kDotStride);
    if constexpr (kTwoRows) Tiles::template store<2>(below, kDotStride);
    if constexpr (kTwoRows && kTwoCols) Tiles::template store<3>(across, kDotStride);
}

template <typename Tiles>
void multiply_bfloat16(const Slice& slice, float* dots) {
    const auto at = [&](const void* side, std::size_t row) {
        return static_cast<const std::uint16_t*>(side) + 2 * row * slice.depth;
    };
    Tiles::begin();
    for (std::size_t j = 0; j < slice.cols; j += 2 * kGroup) {
        const std::size_t end = slice.rows_until(j + 2 * kGroup);
        const bool two_cols = j + kGroup < slice.cols;
        for (std::size_t i = 0; i < end; i += 2 * kGroup) {
            const bool two_rows = i + kGroup < end;
            const auto multiply =
                two_rows ? (two_cols ? multiply_groups<Tiles, true, true> : multiply_groups<Tiles, true, false>)
                         : (two_cols ? multiply_groups<Tiles, false, true> : multiply_groups<Tiles, false, false>);
            multiply(at(slice.a, i), at(slice.b, j) + kGroup * slice.depth, slice.depth, dots + i * kBlock + j,
                     slice.accumulate);
        }
    }
    Tiles::end();
}

// To the nearest, ties to even; for finite values.
std::uint16_t to_bfloat16(float value) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

void pack_bfloat16(const float* x, double scale, const double* centre, std::size_t depth, std::size_t r, void* tile) {
    auto* a = static_cast<std::uint16_t*>(tile) + r / kGroup * 2 * kGroup * depth;
    auto* b = a + kGroup * depth;
    a += r % kGroup * kColumns;
    b += r % kGroup * 2;
    for (std::size_t p = 0; p < depth; p += kColumns, a += kTileSize, b += kTileSize) {
        for (std::size_t l = 0; l < kColumns; ++l)
            a[l] = to_bfloat16(static_cast<float>(x[p + l] * scale - centre[p + l]));
        for (std::size_t l = 0; l < kColumns; l += 2) __builtin_memcpy(b + l * kGroup, a + l, 2 * sizeof *a);
    }
}

template <typename Tiles>
constexpr Product bfloat16_product() {
    return {Rounding::bfloat16,      512, kColumns, kColumns, 2 * sizeof(std::uint16_t), pack_bfloat16,
            multiply_bfloat16<Tiles>};
}

}  // namespace
}  // namespace stcanet::STCANET_ISA
