#include "stcanet/screen.hpp"

#include <algorithm>
#include <cmath>

#include "stcanet/parallel.hpp"

namespace stcanet {
namespace {

// Below this squared distance (in units of the longest row) the tile formula has lost too many digits to cancellation.
constexpr float kClose = 0x1p-8F;

// The mean of so many rows is near enough to that of all.
constexpr std::size_t kMeanOf = 32;
// A centre has to shorten the rows by this factor at least: it costs a pass over them.
constexpr double kWorthIt = 0.5;  // of squared lengths
// Rows are not seen larger than this: what float64 cannot tell apart would be seen, too.
constexpr double kLargest = 0x1p12;

// How far a row of length 1 is from its rounded self, beyond the two roundings that `key_error` counts for float32.
double row_residual(const Product& product, std::size_t depth) {
    switch (product.rounding) {
        case Rounding::int16:
            return 1.00001 * 0.5 * std::sqrt(static_cast<double>(depth)) / kInt16Scale;
        case Rounding::bfloat16:
            return 1.00001 * 0x1p-8;
        case Rounding::float32:
            return 0.0;
    }
    return 0.0;
}

// See "Error of a key" in csrc/README.md: every line here is one term there. The longest row had `length` before it was
// seen from the centre.
double key_error(const Product& product, std::size_t depth, double length) {
    const double residual = row_residual(product, depth);
    const double rows = 2.0 * (2.0 * residual + residual * residual);
    const double roundings =
        static_cast<double>(std::min(depth, product.chain) + (depth + product.chain - 1) / product.chain + 4);
    const double chains = 2.0 * 1.01 * roundings * kUnit32 * (1.0 + residual) * (1.0 + residual);
    const double offset_and_sum = 5.0 * kUnit32;
    const double underflow = static_cast<double>(depth) * 0x1p-120;
    const double moved = (static_cast<double>(depth) + 16.0) * kUnit64 * length;
    return rows + chains + offset_and_sum + underflow + 12.0 * moved + 4.0 * moved * moved;
}

double key_tie(std::size_t depth, Metric metric, double unit) {
    const double rounded_result = 16.0 * kUnit32;
    // The sums of the cosine are of whole rows, those of the euclidean of what they differ in.
    const double of_distance = metric == Metric::cosine ? unit * unit : unit;
    const double float64_sums =
        16.0 * (static_cast<double>(depth) + 16.0) * kUnit64 * (metric == Metric::cosine ? unit * unit : 1.0);
    const double subnormal_result = 8.0 * 0x1p-149 * of_distance * (1.0 + 0x1p-149 * of_distance);
    return rounded_result + float64_sums + subnormal_result;
}

// A power of two that brings this length into (0.5, 1].
double scale_of(double length) {
    int exponent = 0;
    const double fraction = std::frexp(length, &exponent);
    return length > 0.0 ? std::ldexp(1.0, fraction == 0.5 ? 1 - exponent : -exponent) : 1.0;
}

// |x scale - centre|^2, in whatever order is fast.
double squared_from(const double* centre, const float* x, double scale, std::size_t n) {
    constexpr std::size_t kPartials = 8;
    double partial[kPartials] = {};
    for (std::size_t i = 0; i < n; i += kPartials)
        for (std::size_t l = 0; l < std::min(kPartials, n - i); ++l) {
            const double difference = x[i + l] * scale - centre[i + l];
            partial[l] += difference * difference;
        }
    double sum = 0.0;
    for (const double part : partial) sum += part;
    return sum;
}

}  // namespace

Screen::Screen(Features query, Features gallery, Metric metric_, Options options_, const Product& product_,
               const Watch& watch)
    : metric(metric_), options(options_), product(product_), query_{}, gallery_{}, symmetric_(false) {
    query_.rows = query;
    gallery_.rows = gallery;
    scale_rows(watch);
}

Screen::Screen(Features all, Metric metric_, Options options_, const Product& product_, const Watch& watch)
    : metric(metric_), options(options_), product(product_), query_{}, gallery_{}, symmetric_(true) {
    query_.rows = all;
    scale_rows(watch);
}

// Calls visit(i, row as float32) for all rows of the side, from several threads.
template <typename Visit>
void Screen::visit_rows(const Side& side, const Watch& watch, const Visit& visit) const {
    const Features& x = side.rows;
    const auto visit_range = [&](std::size_t begin, std::size_t end) {
        std::vector<float> room(x.half != nullptr ? x.cols : 0);
        for (std::size_t i = begin; i < end; ++i) visit(i, options.kernels->floats(x, i, 0, x.cols, room.data()));
    };
    parallel_ranges(x.rows, 256, options.threads, visit_range, watch);
}

void Screen::scale_rows(const Watch& watch) {
    const std::size_t depth = query_.rows.cols;
    double longest = 0.0;
    for (Side* side : {&query_, &gallery_}) {
        const std::size_t rows = side->rows.rows;
        side->squared.resize(rows);
        visit_rows(*side, watch,
                   [&](std::size_t i, const float* row) { side->squared[i] = options.kernels->dot(row, row, depth); });
        side->scale.assign(rows, 1.0);
        side->length = side->squared;
        for (std::size_t i = 0; i < rows && metric == Metric::cosine; ++i) {
            // A row of zeros is at distance 1 from everything: as if it had length 1 in a direction of its own.
            side->scale[i] = side->squared[i] > 0.0 ? 1.0 / std::sqrt(side->squared[i]) : 0.0;
            side->length[i] = 1.0;
        }
        for (const double length : side->length) longest = std::max(longest, length);
    }
    centre_.assign(depth + kMaxSlice, 0.0);
    const double seen = centre_rows(longest, watch);
    unit_ = scale_of(std::sqrt(seen));
    for (double& value : centre_) value *= unit_;
    for (Side* side : {&query_, &gallery_}) {
        side->offset.resize(side->rows.rows);
        for (std::size_t i = 0; i < side->rows.rows; ++i) {
            side->scale[i] *= unit_;
            side->length[i] *= unit_ * unit_;
            side->offset[i] = static_cast<float>(side->length[i]);
        }
    }
    const double length = unit_ * std::sqrt(longest);
    error = std::max(key_error(product, depth, length), key_error(options.kernels->accurate, depth, length));
    tie = key_tie(depth, metric, unit_);
}

// Embeddings of an untrained or collapsed model are nearly the same direction, and what they share drowns what they
// differ in. Distances do not change when it is taken away. Any centre is as right as any other, so a few rows will do.
double Screen::centre_rows(double longest, const Watch& watch) {
    const std::size_t depth = query_.rows.cols;
    const std::vector<double> mean = mean_of_some();
    double common = 0.0;
    for (const double value : mean) common += value * value;
    if (common < kWorthIt * longest) return longest;
    double seen = longest / (kLargest * kLargest);
    std::vector<double> lengths[2];
    for (Side* side : {&query_, &gallery_}) {
        std::vector<double>& length = lengths[side == &gallery_];
        length.resize(side->rows.rows);
        visit_rows(*side, watch, [&](std::size_t i, const float* row) {
            length[i] = side->scale[i] > 0.0 ? squared_from(mean.data(), row, side->scale[i], depth) : longest;
        });
        for (const double value : length) seen = std::max(seen, value);
    }
    if (seen > kWorthIt * longest) return longest;  // some row lies elsewhere
    query_.length.swap(lengths[0]);
    gallery_.length.swap(lengths[1]);
    std::copy(mean.begin(), mean.end(), centre_.begin());
    return seen;
}

std::vector<double> Screen::mean_of_some() const {
    const std::size_t queries = query_.rows.rows, all = queries + gallery_.rows.rows, count = std::min(all, kMeanOf);
    std::vector<double> mean(query_.rows.cols);
    std::vector<float> room(query_.rows.cols);
    for (std::size_t s = 0; s < count; ++s) {
        const std::size_t place = s * all / count;
        const Side& side = place < queries ? query_ : gallery_;
        const std::size_t i = place < queries ? place : place - queries;
        const float* row = options.kernels->floats(side.rows, i, 0, mean.size(), room.data());
        const double weight = side.scale[i] / static_cast<double>(count);
        for (std::size_t p = 0; p < mean.size(); ++p) mean[p] += row[p] * weight;
    }
    return mean;
}

double Screen::key_of(std::size_t i, double d) const {
    const double scaled = metric == Metric::cosine ? 2.0 * d * unit_ : d * d * unit_;
    return scaled * unit_ - query_.length[i];
}

float Screen::exact(std::size_t i, std::size_t j) const {
    measured_.fetch_add(1, std::memory_order_relaxed);
    const Side &q = query_, &g = gallery();
    const std::size_t cols = q.rows.cols;
    thread_local std::vector<float> room;
    if (room.size() < 2 * cols && (q.rows.half != nullptr || g.rows.half != nullptr)) room.resize(2 * cols);
    const float* x = options.kernels->floats(q.rows, i, 0, cols, room.data());
    const float* y = options.kernels->floats(g.rows, j, 0, cols, room.empty() ? nullptr : room.data() + cols);
    return exact_distance(*options.kernels, metric, x, y, cols, q.squared[i], g.squared[j]);
}

void Screen::distances(std::size_t i, std::size_t first, std::size_t n, const float* dots, float* out) const {
    const float own = query_.offset[i];
    const float* offset = gallery().offset.data() + first;
    int close = 0;
    for (std::size_t j = 0; j < n; ++j) {
        out[j] = std::min(std::max(own + offset[j] - 2.0F * dots[j], 0.0F), 4.0F);
        close |= out[j] < kClose ? 1 : 0;
    }
    std::vector<std::size_t> refined;
    if (close != 0)
        for (std::size_t j = 0; j < n; ++j)
            if (out[j] < kClose) refined.push_back(j);
    const auto factor = static_cast<float>(metric == Metric::cosine ? 0.5 / (unit_ * unit_) : 1.0 / unit_);
    if (metric == Metric::euclidean)
        for (std::size_t j = 0; j < n; ++j) out[j] = std::sqrt(out[j]);
    for (std::size_t j = 0; j < n; ++j) out[j] *= factor;
    for (const std::size_t j : refined) out[j] = exact(i, first + j);
}

}  // namespace stcanet
