#include "direct_search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "stcanet/parallel.hpp"
#include "stcanet/shortlist.hpp"

namespace stcanet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kMinStripe = 1024;                  // gallery rows below which a unit is not worth handing out
constexpr std::size_t kMaxStripe = std::size_t{1} << 16;  // so that nobody waits long for a search to be stopped

// One query beside gallery rows that are looked at one by one. Float32 sums tell most of them apart from the nearest,
// and only the others are measured. See "A few queries" in csrc/README.md.
class DirectQuery {
  public:
    DirectQuery(const Kernels& kernels, Metric metric, const float* row, std::size_t cols)
        : kernels_(kernels),
          metric_(metric),
          row_(row, row + cols),
          squared_(kernels.dot(row, row, cols)),
          quick_(row, row + cols) {
        const auto depth = static_cast<double>(cols);
        const double sum = (std::ceil(depth / kQuickPartials) + 9.0) * kUnit32;  // 5 foldings, and 4 of a term
        margin_ = sum < 0.1 ? 2.0 * sum / (1.0 - sum) + 8.0 * kUnit32 + 4.0 * (depth + 16.0) * kUnit64 : HUGE_VAL;
        if (metric == Metric::euclidean || !(squared_ > 0.0)) return;
        const double scale = 1.0 / std::sqrt(squared_);
        for (float& value : quick_) value = static_cast<float>(value * scale);
    }

    // Whether the float32 distance to row j is certainly above the limit.
    bool excludes(const Features& gallery, std::size_t j, float limit) const {
        if (limit == kInfinity) return false;
        if (metric_ == Metric::cosine) {
            const QuickDots quick = kernels_.quick_dots(quick_.data(), gallery, j);
            return in_range(quick.square) && 1.0 - quick.product / std::sqrt(double{quick.square}) > limit + margin_;
        }
        const float distance = kernels_.quick_squared_distance(quick_.data(), gallery, j);
        return in_range(distance) && distance > double{limit} * limit * (1.0 + margin_);
    }

    float measure(const float* row) const {
        const double square = metric_ == Metric::cosine ? kernels_.dot(row, row, row_.size()) : 0.0;
        return exact_distance(kernels_, metric_, row_.data(), row, row_.size(), squared_, square);
    }

  private:
    // Neither overflow nor what underflows matters to a sum of squares in this range.
    static bool in_range(float square) { return square > 1e-20F && square < 1e30F; }

    const Kernels& kernels_;
    const Metric metric_;
    const std::vector<float> row_;
    const double squared_;
    std::vector<float> quick_;  // for the cosine of length 1
    double margin_;             // of a cosine; of a squared distance in units of itself
};

}  // namespace

// Stripes of the gallery yield exact lists, which merge without ambiguity.
void search_directly(Features query, Features gallery, Metric metric, Groups groups, Options options, std::size_t k,
                     Matrix<float> distances, Matrix<std::int64_t> indices, const Watch& watch) {
    const Kernels& kernels = *options.kernels;
    const std::size_t cols = query.cols;
    std::vector<DirectQuery> queries;
    queries.reserve(query.rows);
    std::vector<float> room(cols);
    for (std::size_t i = 0; i < query.rows; ++i)
        queries.emplace_back(kernels, metric, kernels.floats(query, i, 0, cols, room.data()), cols);
    const std::size_t most = std::max(4 * resolve_threads(options.threads), gallery.rows / kMaxStripe);
    const std::size_t stripes = std::clamp<std::size_t>(gallery.rows / kMinStripe, 1, most);
    std::vector<Smallest> found(query.rows * stripes, Smallest(k));
    const auto search_stripe = [&](std::size_t s) {
        std::vector<float> wide(gallery.half != nullptr ? cols : 0);
        for (std::size_t j = gallery.rows * s / stripes; j < gallery.rows * (s + 1) / stripes; ++j) {
            for (std::size_t i = 0; i < query.rows; ++i) {
                Smallest& best = found[i * stripes + s];
                if (groups.hides(i, j) || queries[i].excludes(gallery, j, best.limit())) continue;
                const float* row = kernels.floats(gallery, j, 0, cols, wide.data());
                best.offer({queries[i].measure(row), static_cast<std::int32_t>(j)});
            }
        }
    };
    parallel_for(stripes, options.threads, search_stripe, watch);
    for (std::size_t i = 0; i < query.rows; ++i) {
        Smallest& best = found[i * stripes];
        for (std::size_t s = 1; s < stripes; ++s)
            for (const Hit& hit : found[i * stripes + s].sorted()) best.offer(hit);
        write_places(best.sorted(), distances.cols, 0, distances.row(i), indices.row(i));
    }
}

}  // namespace stcanet
