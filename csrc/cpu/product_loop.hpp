// The loop over the tiles of a slice, once per instruction set: everything is in the unnamed namespace of its includer.
#pragma once

#include "stcanet/isa.hpp"

namespace stcanet::STCANET_ISA {
namespace {

// Tile has kRows, kCols, both dividing kTileWidth; Element, and kLane elements of a row side by side in [depth / kLane,
// kTileWidth, kLane]; and multiply(a, b, depth, c, accumulate).
template <typename Tile>
void multiply_tiles(const Slice& slice, float* dots) {
    const auto at = [&](const void* side, std::size_t row) {
        const std::size_t first = row / kTileWidth * kTileWidth;
        return static_cast<const typename Tile::Element*>(side) + first * slice.depth + (row - first) * Tile::kLane;
    };
    // A strip of b stays in the first-level cache while all of a passes by.
    for (std::size_t j = 0; j < slice.cols; j += Tile::kCols) {
        const std::size_t end = slice.rows_until(j + Tile::kCols);
        for (std::size_t i = 0; i < end; i += Tile::kRows)
            Tile::multiply(at(slice.a, i), at(slice.b, j), slice.depth, dots + i * kBlock + j, slice.accumulate);
    }
}

}  // namespace
}  // namespace stcanet::STCANET_ISA
