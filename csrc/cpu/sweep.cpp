#include "stcanet/sweep.hpp"

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

namespace stcanet {
namespace {

std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

struct FreeAligned {
    void operator()(float* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
};
using AlignedFloats = std::unique_ptr<float[], FreeAligned>;

AlignedFloats allocate(std::size_t count) {
    return AlignedFloats(static_cast<float*>(::operator new[](count * sizeof(float), std::align_val_t{64})));
}

// Rows of one side, scaled and packed: for every kDepth columns, tiles of [depth, kTileWidth]; missing rows are zero.
class Panel {
  public:
    Panel(std::size_t capacity, std::size_t depth) : depth_(depth), memory_(allocate(padded(capacity) * depth)) {}

    void pack(const Side& side, const Kernels& kernels, std::size_t first, std::size_t rows, std::size_t threads) {
        first_ = first;
        rows_ = rows;
        parallel_for(padded(rows) / kTileWidth, threads, [&](std::size_t t) {
            for (std::size_t p0 = 0; p0 < depth_; p0 += kDepth) pack_tile(side, kernels, t, p0);
        });
    }

    std::size_t first() const { return first_; }
    std::size_t rows() const { return rows_; }
    // The tile at row t * kTileWidth of the panel, columns [p0, p0 + kDepth).
    float* tile(std::size_t t, std::size_t p0) const {
        return memory_.get() + p0 * padded(rows_) + t * kTileWidth * std::min(kDepth, depth_ - p0);
    }

  private:
    static std::size_t padded(std::size_t rows) { return ceil_div(rows, kTileWidth) * kTileWidth; }

    void pack_tile(const Side& side, const Kernels& kernels, std::size_t t, std::size_t p0) const {
        float *out = tile(t, p0), room[kDepth];
        const std::size_t depth = std::min(kDepth, depth_ - p0);
        for (std::size_t r = 0; r < kTileWidth; ++r) {
            const std::size_t i = t * kTileWidth + r;
            if (i >= rows_) {
                for (std::size_t p = 0; p < depth; ++p) out[p * kTileWidth + r] = 0.0F;
                continue;
            }
            const float* source = kernels.floats(side.rows, first_ + i, p0, depth, room);
            const double scale = side.scale[first_ + i];
            for (std::size_t p = 0; p < depth; ++p) out[p * kTileWidth + r] = static_cast<float>(source[p] * scale);
        }
    }

    std::size_t depth_, first_ = 0, rows_ = 0;
    AlignedFloats memory_;
};

// One block of products into dots [rows, kBlock]; a and b count rows from the start of their panels.
void multiply(const Kernels& kernels, std::size_t total, const Panel& a_panel, std::size_t a, std::size_t rows,
              const Panel& b_panel, std::size_t b, std::size_t cols, bool diagonal, float* dots) {
    for (std::size_t p0 = 0; p0 < total; p0 += kDepth) {
        const std::size_t depth = std::min(kDepth, total - p0);
        for (std::size_t j = 0; j < cols; j += kTileWidth) {
            const float* b_tile = b_panel.tile((b + j) / kTileWidth, p0);
            const std::size_t end = diagonal ? std::min(rows, j + kTileWidth) : rows;
            // A slice of b stays in the first-level cache while all of a passes by.
            for (std::size_t jj = 0; jj < kTileWidth; jj += kernels.tile_cols)
                for (std::size_t i = 0; i < end; i += kTileWidth) {
                    const float* a_tile = a_panel.tile((a + i) / kTileWidth, p0);
                    for (std::size_t ii = 0; ii < kTileWidth; ii += kernels.tile_rows)
                        kernels.tile(a_tile + ii, b_tile + jj, depth, dots + (i + ii) * kBlock + j + jj, kBlock,
                                     p0 != 0);
                }
        }
    }
}

// Rows of the panels of one side, whole blocks; the same for both sides of a symmetric screen, so that panels meet on
// the diagonal.
std::size_t panel_rows(const Features& rows, std::size_t bytes) {
    const std::size_t blocks = std::max<std::size_t>(1, bytes / (rows.cols * sizeof(float)) / kBlock);
    return std::min(blocks, std::max<std::size_t>(1, ceil_div(rows.rows, kBlock))) * kBlock;
}

struct Unit {
    std::size_t a, b;  // blocks, counted from the start of their panels
};

std::vector<Unit> units_of(const Panel& query, const Panel& gallery, bool diagonal) {
    std::vector<Unit> units;
    for (std::size_t a = 0; a * kBlock < query.rows(); ++a)
        for (std::size_t b = diagonal ? a : 0; b * kBlock < gallery.rows(); ++b) units.push_back({a, b});
    return units;
}

std::size_t count_units(const Screen& screen) {
    const std::size_t q = ceil_div(screen.query().rows.rows, kBlock), g = ceil_div(screen.gallery().rows.rows, kBlock);
    return screen.symmetric() ? q * (q + 1) / 2 : q * g;
}

// Returns the number of blocks.
std::size_t sweep_panels(const Screen& screen, const Panel& query, const Panel& gallery,
                         const std::function<void(const Block&)>& visit, const Watch& watch) {
    const bool same = &query == &gallery;
    const std::vector<Unit> units = units_of(query, gallery, same);
    const std::size_t depth = screen.query().rows.cols;
    parallel_for(
        units.size(), screen.options.threads,
        [&](std::size_t u) {
            thread_local const AlignedFloats dots = allocate(kBlock * kBlock);
            const std::size_t a = units[u].a * kBlock, b = units[u].b * kBlock;
            const Block block{query.first() + a,   std::min(kBlock, query.rows() - a),
                              gallery.first() + b, std::min(kBlock, gallery.rows() - b),
                              dots.get(),          same && a == b};
            multiply(*screen.options.kernels, depth, query, a, block.rows, gallery, b, block.cols, block.diagonal,
                     dots.get());
            visit(block);
        },
        watch);
    return units.size();
}

}  // namespace

void sweep(const Screen& screen, std::size_t scratch, const std::function<void(const Block&)>& visit,
           const std::function<void(std::size_t, std::size_t)>& watch) {
    const Side &q = screen.query(), &g = screen.gallery();
    if (q.rows.rows == 0 || g.rows.rows == 0) return;
    const std::size_t query_rows = panel_rows(q.rows, scratch / 2), gallery_rows = panel_rows(g.rows, scratch / 2);
    const std::size_t total = count_units(screen), threads = screen.options.threads;
    Panel query(query_rows, q.rows.cols);
    std::unique_ptr<Panel> gallery;  // not needed when one panel holds all rows of a symmetric screen
    std::size_t before = 0;
    const Watch told = watch ? Watch([&](std::size_t done) { watch(before + done, total); }) : Watch{};
    for (std::size_t i0 = 0; i0 < q.rows.rows; i0 += query_rows) {
        query.pack(q, *screen.options.kernels, i0, std::min(query_rows, q.rows.rows - i0), threads);
        const std::size_t start = screen.symmetric() ? i0 : 0;
        for (std::size_t j0 = start; j0 < g.rows.rows; j0 += gallery_rows) {
            const bool same = screen.symmetric() && j0 == i0;
            if (!same) {
                if (!gallery) gallery = std::make_unique<Panel>(gallery_rows, g.rows.cols);
                gallery->pack(g, *screen.options.kernels, j0, std::min(gallery_rows, g.rows.rows - j0), threads);
            }
            before += sweep_panels(screen, query, same ? query : *gallery, visit, told);
        }
    }
}

}  // namespace stcanet
