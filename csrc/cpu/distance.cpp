#include "stcanet/distance.hpp"

#include <algorithm>
#include <cmath>

#include "stcanet/parallel.hpp"
#include "stcanet/screen.hpp"

namespace stcanet {
namespace {

// Below this squared distance (in units of the longest row) the tile formula has lost too many digits to cancellation.
constexpr double kClose = 0x1p-8;

void write_row(const Screen& screen, std::size_t i, std::size_t first, std::size_t cols, const float* keys,
               float* out) {
    for (std::size_t c = 0; c < cols; ++c) {
        const double gap = screen.squared_gap(i, keys[c]);
        out[c] = gap < kClose ? screen.exact(i, first + c) : static_cast<float>(screen.distance_of_gap(gap));
    }
}

}  // namespace

float exact_distance(const Kernels& kernels, Metric metric, const float* q, const float* g, std::size_t n, double q_sq,
                     double g_sq) {
    if (metric == Metric::euclidean) return static_cast<float>(std::sqrt(kernels.squared_distance(q, g, n)));
    // sqrt(s * s) == s in IEEE arithmetic, so a copy is at distance zero exactly; the product cannot leave the range of
    // float64 since the rows are float32.
    const double product = q_sq * g_sq;
    const double cosine = product > 0.0 ? kernels.dot(q, g, n) / std::sqrt(product) : 0.0;
    return static_cast<float>(std::clamp(1.0 - cosine, 0.0, 2.0));
}

void distance_matrix(Features query, Features gallery, Metric metric, Options options, Matrix<float> out) {
    if (query.rows == 0 || gallery.rows == 0) return;
    const Screen screen(query, gallery, metric, options);
    // A unit is one block of queries and a stripe of the gallery: long enough to pay for packing the queries.
    constexpr std::size_t stripe = 8 * kBlockCols;
    const std::size_t stripes = (gallery.rows + stripe - 1) / stripe;
    const std::size_t blocks = (query.rows + kBlockRows - 1) / kBlockRows;
    parallel_for(blocks * stripes, options.threads, [&](std::size_t unit) {
        const std::size_t i0 = unit / stripes * kBlockRows, rows = std::min(kBlockRows, query.rows - i0);
        const std::size_t begin = unit % stripes * stripe, end = std::min(gallery.rows, begin + stripe);
        KeyBlock block(screen, i0, rows);
        for (std::size_t j0 = begin; j0 < end; j0 += kBlockCols) {
            const std::size_t cols = std::min(kBlockCols, end - j0);
            block.compute(j0, cols);
            for (std::size_t i = 0; i < rows; ++i)
                write_row(screen, i0 + i, j0, cols, block.row(i), out.row(i0 + i) + j0);
        }
    });
}

}  // namespace stcanet
