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
constexpr std::size_t kMaxStripe = std::size_t{1} << 16;  // so that nobody waits long for a search to be stopped

using Lists = std::vector<Nearest>;

Lists make_lists(const Screen& screen, std::size_t rows, std::size_t k) {
    Lists lists;
    lists.reserve(rows);
    for (std::size_t i = 0; i < rows; ++i) lists.emplace_back(screen, i, k);
    return lists;
}

float measure(const Kernels& kernels, Metric metric, const float* q, double q_sq, const float* g, std::size_t cols) {
    if (metric == Metric::euclidean) return exact_distance(kernels, metric, q, g, cols, q_sq, 0.0);
    const Dots dots = kernels.dots(q, g, cols);
    return exact_cosine(dots.product, q_sq, dots.square);
}

// Every visible row is measured, and read once for all queries: reading the gallery is all the time. Stripes of it
// yield exact lists, which merge without ambiguity.
void search_directly(Features query, Features gallery, Metric metric, Groups groups, Options options, std::size_t k,
                     Matrix<float> distances, Matrix<std::int64_t> indices, const Watch& watch) {
    const Kernels& kernels = *options.kernels;
    const std::size_t cols = query.cols;
    std::vector<float> queries(query.half != nullptr ? query.rows * cols : 0);
    std::vector<const float*> rows(query.rows);
    std::vector<double> squared(query.rows);
    for (std::size_t i = 0; i < query.rows; ++i) {
        rows[i] = kernels.floats(query, i, 0, cols, queries.data() + (queries.empty() ? 0 : i * cols));
        squared[i] = kernels.dot(rows[i], rows[i], cols);
    }
    const std::size_t most = std::max(4 * resolve_threads(options.threads), gallery.rows / kMaxStripe);
    const std::size_t stripes = std::clamp<std::size_t>(gallery.rows / kMinStripe, 1, most);
    std::vector<Smallest> found(query.rows * stripes, Smallest(k));
    const auto measure_stripe = [&](std::size_t s) {
        std::vector<float> room(gallery.half != nullptr ? cols : 0);
        for (std::size_t j = gallery.rows * s / stripes; j < gallery.rows * (s + 1) / stripes; ++j) {
            const float* row = kernels.floats(gallery, j, 0, cols, room.data());
            for (std::size_t i = 0; i < query.rows; ++i)
                if (!groups.hides(i, j))
                    found[i * stripes + s].offer(
                        {measure(kernels, metric, rows[i], squared[i], row, cols), static_cast<std::int32_t>(j)});
        }
    };
    parallel_for(stripes, options.threads, measure_stripe, watch);
    for (std::size_t i = 0; i < query.rows; ++i) {
        Smallest& best = found[i * stripes];
        for (std::size_t s = 1; s < stripes; ++s)
            for (const Hit& hit : found[i * stripes + s].sorted()) best.offer(hit);
        write_places(best.sorted(), distances.cols, 0, distances.row(i), indices.row(i));
    }
}

void scan_by_keys(const Screen& screen, Groups groups, std::size_t scratch, Lists& lists, const Watch& watch) {
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
    if (k > 0 && query.rows < kDirectRows) {
        search_directly(query, gallery, metric, groups, options, k, distances, indices, watch);
        return;
    }
    search_with_best(*options.kernels, {}, [&](const Product& product, const Progress&) {
        const Screen screen(query, gallery, metric, options, product, watch);
        Lists lists = make_lists(screen, query.rows, k);
        if (k > 0) scan_by_keys(screen, groups, scratch, lists, watch);
        const auto finish = [&](std::size_t i) {
            const std::vector<Hit> best = k > 0 ? lists[i].finish() : std::vector<Hit>{};
            write_places(best, distances.cols, 0, distances.row(i), indices.row(i));
        };
        parallel_for(query.rows, options.threads, finish, watch);
    });
}

}  // namespace stcanet
