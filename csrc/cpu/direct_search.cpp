#include "direct_search.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "stcanet/parallel.hpp"
#include "stcanet/shortlist.hpp"

namespace stcanet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kMinStripe = 1024;                  // gallery rows below which a unit is not worth handing out
constexpr std::size_t kMaxStripe = std::size_t{1} << 14;  // so that nobody waits long for a search to be stopped
constexpr double kLeast = 1e-20, kMost = 1e30;            // in between neither overflow nor underflow matters

// The queries. Float32 sums with two gallery rows tell most pairs apart from the nearest, and only the others are
// measured. See "Some queries" in csrc/README.md.
class DirectQueries {
  public:
    DirectQueries(const Kernels& kernels, Metric metric, Features query)
        : kernels_(kernels), metric_(metric), cols_(query.cols), rows_(query.rows * cols_), squared_(query.rows) {
        const auto depth = static_cast<double>(cols_);
        const double sum = (std::ceil(depth / kQuickPartials) + 6.0) * kUnit32;  // 2 foldings, and 4 of a term
        margin_ = sum < 0.1 ? 2.0 * sum / (1.0 - sum) + 8.0 * kUnit32 + 4.0 * (depth + 16.0) * kUnit64 : HUGE_VAL;
        quick_.resize((query.rows + kQuickQueries - 1) / kQuickQueries * kQuickQueries * cols_);
        for (std::size_t i = 0; i < query.rows; ++i) {
            float *row = rows_.data() + i * cols_, *quick = quick_.data() + i * cols_;
            const float* values = kernels.floats(query, i, 0, cols_, row);
            if (values != row) std::copy(values, values + cols_, row);
            squared_[i] = kernels.dot(row, row, cols_);
            const bool unit = metric == Metric::cosine && squared_[i] > 0.0;
            const double scale = unit ? 1.0 / std::sqrt(squared_[i]) : 1.0;
            for (std::size_t p = 0; p < cols_; ++p) quick[p] = static_cast<float>(row[p] * scale);
        }
    }

    // Sums of kQuickQueries queries, or those that are left, from `first` on; squares with the first ones.
    void look(std::size_t first, const Features& gallery, std::size_t j, std::size_t next, QuickSums& sums) const {
        const float* x = quick_.data() + first * cols_;
        const std::size_t count = squared_.size() - first == 1 ? 1 : kQuickQueries;
        if (metric_ == Metric::cosine)
            kernels_.quick_dots(x, count, gallery, j, next, first == 0, sums);
        else
            kernels_.quick_squared_distances(x, count, gallery, j, next, sums);
    }

    // What sums with a row of this squared length grow with the distance, times this; NaN where they tell nothing.
    double scale(float square) const {
        if (metric_ == Metric::euclidean) return 1.0;
        return square > kLeast && square < kMost ? -1.0 / std::sqrt(double{square}) : NAN;
    }

    // The scaled sum above which, and below kMost, a distance is certainly above the limit.
    double bar(float limit) const {
        if (limit == kInfinity) return HUGE_VAL;
        if (metric_ == Metric::cosine) return limit + margin_ - 1.0;
        return std::max(double{limit} * limit * (1.0 + margin_), kLeast);
    }

    float measure(std::size_t i, const float* row) const {
        const double square = metric_ == Metric::cosine ? kernels_.dot(row, row, cols_) : 0.0;
        return exact_distance(kernels_, metric_, rows_.data() + i * cols_, row, cols_, squared_[i], square);
    }

  private:
    const Kernels& kernels_;
    const Metric metric_;
    const std::size_t cols_;
    std::vector<float> rows_, quick_;  // as they are; filled up to whole blocks, and for the cosine of length 1
    std::vector<double> squared_;
    double margin_;  // of a cosine; of a squared distance in units of itself
};

// The least of what several threads found.
class SharedBar {
  public:
    double get() const { return bar_.load(std::memory_order_relaxed); }

    void lower(double bar) {
        double now = get();
        while (bar < now && !bar_.compare_exchange_weak(now, bar, std::memory_order_relaxed)) {
        }
    }

  private:
    std::atomic<double> bar_{HUGE_VAL};
};

}  // namespace

// Stripes of the gallery yield exact lists, which merge without ambiguity. What one of them found bounds what the
// others look at; which pairs are measured depends on the threads, the lists do not.
void search_directly(Features query, Features gallery, Metric metric, Groups groups, Options options, std::size_t k,
                     Matrix<float> distances, Matrix<std::int64_t> indices, const Watch& watch) {
    const Kernels& kernels = *options.kernels;
    const std::size_t cols = query.cols;
    const DirectQueries queries(kernels, metric, query);
    const std::size_t most = std::max(4 * resolve_threads(options.threads), gallery.rows / kMaxStripe);
    const std::size_t stripes = std::clamp<std::size_t>(gallery.rows / kMinStripe, 1, most);
    std::vector<Smallest> found(query.rows * stripes, Smallest(k));
    std::vector<SharedBar> bars(query.rows);
    const auto hidden = [&](std::size_t j) {
        std::size_t i = 0;
        while (i < query.rows && groups.hides(i, j)) ++i;
        return i == query.rows;
    };
    const auto search_rows = [&](std::size_t s, const std::size_t (&rows)[kQuickRows], std::size_t count, float* wide) {
        double scales[kQuickRows];
        QuickSums sums{};
        for (std::size_t i = 0; i < query.rows; ++i) {
            const std::size_t a = i % kQuickQueries;
            if (a == 0) queries.look(i, gallery, rows[0], rows[count - 1], sums);
            for (std::size_t b = 0; b < count; ++b) {
                if (i == 0) scales[b] = queries.scale(sums.squares[b]);
                const double sum = sums.pairs[b][a] * scales[b];
                if (groups.hides(i, rows[b]) || (sum > bars[i].get() && sum < kMost)) continue;
                Smallest& best = found[i * stripes + s];
                const float* row = kernels.floats(gallery, rows[b], 0, cols, wide);
                best.offer({queries.measure(i, row), static_cast<std::int32_t>(rows[b])});
                bars[i].lower(queries.bar(best.limit()));
            }
        }
    };
    const auto search_stripe = [&](std::size_t s) {
        std::vector<float> wide(gallery.half != nullptr ? cols : 0);
        std::size_t rows[kQuickRows], count = 0;
        const std::size_t end = gallery.rows * (s + 1) / stripes;
        for (std::size_t j = gallery.rows * s / stripes; j < end; ++j) {
            if (!hidden(j)) rows[count++] = j;  // what is hidden from all is not even read
            if (count < kQuickRows && (j + 1 < end || count == 0)) continue;
            search_rows(s, rows, count, wide.data());
            count = 0;
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
