#include "stcanet/topk.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "direct_search.hpp"
#include "stcanet/parallel.hpp"
#include "stcanet/shortlist.hpp"
#include "stcanet/sweep.hpp"
#include "striped_lock.hpp"

namespace stcanet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// With fewer queries packing the gallery costs more than it saves: the more columns, the later.
std::size_t direct_rows(std::size_t cols) { return std::min<std::size_t>(8 + cols / 24, 40); }

using Shortlists = std::vector<Nearest>;

Shortlists make_lists(const Screen& screen, std::size_t rows, std::size_t k) {
    Shortlists lists;
    lists.reserve(rows);
    for (std::size_t i = 0; i < rows; ++i) lists.emplace_back(screen, i, k);
    return lists;
}

void scan_by_keys(const Screen& screen, Groups groups, std::size_t scratch, Shortlists& lists, const Watch& watch) {
    const std::vector<float> never_near(kBlock, -kInfinity), never_far(kBlock, kInfinity);
    StripedLock locks(lists.size(), kBlock);
    const auto visit = [&](const Block& block) {
        std::uint32_t hits[kBlock];
        const auto guard = locks.hold(block.row);
        const float* offsets = screen.gallery().offset.data() + block.col;
        for (std::size_t i = block.row; i < block.row + block.rows; ++i) {
            const float* dots = block.products(i);
            const ScanRow row{dots, block.cols, lists[i].limit(),  kInfinity,
                              0.0F, offsets,    never_near.data(), never_far.data()};
            const std::size_t count = screen.options.kernels->scan(row, hits);
            for (std::size_t h = 0; h < count; ++h) {
                const std::size_t c = hits[h];
                if (!groups.hides(i, block.col + c)) lists[i].push(offsets[c] - 2.0F * dots[c], block.col + c);
            }
        }
    };
    sweep(screen, scratch, visit, as_progress(watch));
}

}  // namespace

void top_k(Features query, Features gallery, Metric metric, Groups groups, Options options, std::size_t scratch,
           Matrix<float> distances, Matrix<std::int64_t> indices, const Watch& watch) {
    const std::size_t k = std::min(distances.cols, gallery.rows);
    if (k > 0 && query.rows < direct_rows(query.cols)) {
        search_directly(query, gallery, metric, groups, options, k, distances, indices, watch);
        return;
    }
    search_with_best(*options.kernels, {}, [&](const Product& product, const Progress&) {
        const Screen screen(query, gallery, metric, options, product, watch);
        Shortlists lists = make_lists(screen, query.rows, k);
        if (k > 0) scan_by_keys(screen, groups, scratch, lists, watch);
        const auto finish = [&](std::size_t i) {
            const std::vector<Hit> best = k > 0 ? lists[i].finish() : std::vector<Hit>{};
            write_places(best, distances.cols, 0, distances.row(i), indices.row(i));
        };
        parallel_for(query.rows, options.threads, finish, watch);
    });
}

}  // namespace stcanet
