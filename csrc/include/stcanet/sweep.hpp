// All products q' . g' of a screen, block by block, in bounded memory: what every search here is made of.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <vector>

#include "stcanet/parallel.hpp"
#include "stcanet/screen.hpp"

namespace stcanet {

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

// Told (blocks done, of how many) from the calling thread; what it throws ends the work. May be empty.
using Progress = std::function<void(std::size_t done, std::size_t total)>;

// For a watch that has no use for the total.
inline Progress as_progress(const Watch& watch) {
    if (!watch) return {};
    return [&watch](std::size_t done, std::size_t) { watch(done); };
}

struct Range {
    std::size_t first, count;
};

// Some query rows against some gallery rows; of a symmetric screen a range with itself, or two without common rows.
struct Part {
    Range query, gallery;
    const Product* product;
};

// The screen leaves more pairs to be measured than the speed of its product is worth.
struct ScreenTooCoarse : std::exception {
    const char* what() const noexcept override { return "the screen is too coarse for these rows"; }
};

// Visits every pair of rows of the parts once, from several threads; of a range with itself, every unordered pair (see
// Block). Scaled copies of the rows are packed into at most about `scratch` bytes at a time, or a block of rows of
// each side where that is more; the products do not depend on it.
// Throws ScreenTooCoarse when the product of the screen is not the accurate one and very many pairs were measured.
void sweep(const Screen& screen, const std::vector<Part>& parts, std::size_t scratch,
           const std::function<void(const Block&)>& visit, const Progress& watch = {});

// All rows, with the product of the screen.
void sweep(const Screen& screen, std::size_t scratch, const std::function<void(const Block&)>& visit,
           const Progress& watch = {});

// Calls search(product, watch) with the fastest product, and again with the accurate one if that was too coarse. The
// second search has what the first left of the way, so that `watch` is never told less than before.
template <typename Search>
void search_with_best(const Kernels& kernels, const Progress& watch, const Search& search) {
    std::size_t reached = 0;
    try {
        search(kernels.screen, [&](std::size_t done, std::size_t total) {
            reached = done;
            if (watch) watch(done, total);
        });
    } catch (const ScreenTooCoarse&) {
        search(kernels.accurate, [&](std::size_t done, std::size_t total) {
            if (watch) watch(reached + (total - reached) * done / total, total);
        });
    }
}

}  // namespace stcanet
