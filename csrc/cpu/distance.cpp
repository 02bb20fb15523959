#include "stcanet/distance.hpp"

#include <algorithm>
#include <cmath>

#include "stcanet/screen.hpp"
#include "stcanet/sweep.hpp"

namespace stcanet {

float exact_distance(const Kernels& kernels, Metric metric, const float* q, const float* g, std::size_t n, double q_sq,
                     double g_sq) {
    if (metric == Metric::euclidean) return static_cast<float>(std::sqrt(kernels.squared_distance(q, g, n)));
    // sqrt(s * s) == s in IEEE arithmetic, so a copy is at distance zero exactly; the product cannot leave the range of
    // float64 since the rows are float32.
    const double lengths = q_sq * g_sq;
    const double cosine = lengths > 0.0 ? kernels.dot(q, g, n) / std::sqrt(lengths) : 0.0;
    return static_cast<float>(std::clamp(1.0 - cosine, 0.0, 2.0));
}

void distance_matrix(Features query, Features gallery, Metric metric, Options options, std::size_t scratch,
                     Matrix<float> out, const Watch& watch) {
    const Screen screen(query, gallery, metric, options, options.kernels->accurate, watch);
    const auto write = [&](const Block& block) {
        for (std::size_t i = block.row; i < block.row + block.rows; ++i)
            screen.distances(i, block.col, block.cols, block.products(i), out.row(i) + block.col);
    };
    sweep(screen, scratch, write, as_progress(watch));
}

}  // namespace stcanet
