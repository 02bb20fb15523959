// All products q' . g' of a screen, block by block, in bounded memory: what every search here is made of.
#pragma once

#include <cstddef>
#include <functional>

#include "stcanet/parallel.hpp"
#include "stcanet/screen.hpp"

namespace stcanet {

constexpr std::size_t kScratch = std::size_t{128} << 20;  // bytes of packed rows that a search may hold
constexpr std::size_t kBlock = 8 * kTileWidth;  // rows and columns of a block: its sums stay in the second-level cache

// The products of query rows [row, row + rows) with gallery rows [col, col + cols).
struct Block {
    std::size_t row, rows, col, cols;
    const float* dots;  // [rows, kBlock]
    bool diagonal;      // of a symmetric screen: only columns from first_col(i) on are there

    const float* products(std::size_t i) const { return dots + (i - row) * kBlock; }
    // First gallery row of query row i, and the first that is not also a query row of the same diagonal tile: from
    // there on, the block stands for (j, i) as well.
    std::size_t first_col(std::size_t i) const { return diagonal ? col + tile_start(i) : col; }
    std::size_t first_mirrored(std::size_t i) const { return diagonal ? col + tile_start(i) + kTileWidth : col; }

  private:
    std::size_t tile_start(std::size_t i) const { return (i - row) / kTileWidth * kTileWidth; }
};

// Visits every pair of rows once, from several threads; of a symmetric screen, every unordered pair (see Block).
// Scaled copies of the rows are packed into at most about `scratch` bytes at a time; the products do not depend on it.
// `watch` is told (blocks done, of how many).
void sweep(const Screen& screen, std::size_t scratch, const std::function<void(const Block&)>& visit,
           const std::function<void(std::size_t, std::size_t)>& watch = {});

}  // namespace stcanet
