#include "stcanet/topk.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "stcanet/parallel.hpp"
#include "stcanet/shortlist.hpp"
#include "stcanet/sweep.hpp"
#include "striped_lock.hpp"

namespace stcanet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kDirectRows = 4;    // with fewer queries packing the gallery costs more than it saves
constexpr std::size_t kMinStripe = 1024;  // gallery rows below which a unit is not worth handing out

using Lists = std::vector<Nearest>;

Lists make_lists(const Screen& screen, std::size_t rows, std::size_t k) {
    Lists lists;
    lists.reserve(rows);
    for (std::size_t i = 0; i < rows; ++i) lists.emplace_back(screen, i, k);
    return lists;
}

// Every visible row is measured; stripes of the gallery yield exact lists, which merge without ambiguity.
void scan_directly(const Screen& screen, Groups groups, std::size_t k, Lists& lists) {
    const std::size_t rows = lists.size(), gallery = screen.gallery().rows.rows;
    const std::size_t stripes =
        std::clamp<std::size_t>(gallery / kMinStripe, 1, 4 * resolve_threads(screen.options.threads));
    std::vector<std::vector<Hit>> found(rows * stripes);
    parallel_for(rows * stripes, screen.options.threads, [&](std::size_t unit) {
        const std::size_t i = unit / stripes, s = unit % stripes;
        std::vector<Hit>& hits = found[unit];
        for (std::size_t j = gallery * s / stripes; j < gallery * (s + 1) / stripes; ++j)
            if (!groups.hides(i, j)) hits.push_back({screen.exact(i, j), static_cast<std::int32_t>(j)});
        std::sort(hits.begin(), hits.end());
        hits.resize(std::min(hits.size(), k));
    });
    for (std::size_t unit = 0; unit < found.size(); ++unit)
        for (const Hit& hit : found[unit]) lists[unit / stripes].add_exact(hit);
}

void scan_by_keys(const Screen& screen, Groups groups, std::size_t scratch, Lists& lists) {
    const std::vector<float> never_near(kBlock, -kInfinity), never_far(kBlock, kInfinity);
    StripedLock locks(lists.size(), kBlock);
    sweep(screen, scratch, [&](const Block& block) {
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
    });
}

}  // namespace

void top_k(Features query, Features gallery, Metric metric, Groups groups, Options options, std::size_t scratch,
           Matrix<float> distances, Matrix<std::int64_t> indices) {
    const std::size_t k = std::min(distances.cols, gallery.rows);
    search_with_best(*options.kernels, {}, [&](const Product& product, const Progress&) {
        const Screen screen(query, gallery, metric, options, product);
        Lists lists = make_lists(screen, query.rows, k);
        if (k > 0 && query.rows < kDirectRows)
            scan_directly(screen, groups, k, lists);
        else if (k > 0)
            scan_by_keys(screen, groups, scratch, lists);
        parallel_for(query.rows, options.threads, [&](std::size_t i) {
            const std::vector<Hit> best = k > 0 ? lists[i].finish() : std::vector<Hit>{};
            write_places(best, distances.cols, 0, distances.row(i), indices.row(i));
        });
    });
}

}  // namespace stcanet
