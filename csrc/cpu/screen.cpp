#include "stcanet/screen.hpp"

#include <algorithm>
#include <cmath>

#include "stcanet/parallel.hpp"

namespace stcanet {
namespace {

constexpr double kUnit32 = 0x1p-24;  // unit roundoff of float32
constexpr double kUnit64 = 0x1p-53;
// Below this squared distance (in units of the longest row) the tile formula has lost too many digits to cancellation.
constexpr float kClose = 0x1p-8F;

// How far a row of length 1 is from its rounded self, beyond the two roundings that `key_error` counts for float32.
double row_residual(const Product& product, std::size_t depth) {
    switch (product.rounding) {
        case Rounding::int16:
            return 1.000001 * 0.5 * std::sqrt(static_cast<double>(depth)) / kInt16Scale;
        case Rounding::bfloat16:
            return 1.000001 * 0x1p-8;
        case Rounding::float32:
            return 0.0;
    }
    return 0.0;
}

// See "Error of a key" in csrc/README.md: every line here is one term there.
double key_error(const Product& product, std::size_t depth) {
    const double residual = row_residual(product, depth);
    const double rows = 2.0 * (2.0 * residual + residual * residual);
    const double roundings =
        static_cast<double>(std::min(depth, product.chain) + (depth + product.chain - 1) / product.chain + 4);
    const double chains = 2.0 * 1.01 * roundings * kUnit32 * (1.0 + residual) * (1.0 + residual);
    const double offset_and_sum = 5.0 * kUnit32;
    const double underflow = static_cast<double>(depth) * 0x1p-120;
    return rows + chains + offset_and_sum + underflow;
}

double key_tie(std::size_t depth, double unit) {
    const double rounded_result = 16.0 * kUnit32;
    const double float64_sums = 16.0 * (static_cast<double>(depth) + 16.0) * kUnit64;
    const double subnormal_result = 8.0 * 0x1p-149 * unit * (1.0 + 0x1p-149 * unit);
    return rounded_result + float64_sums + subnormal_result;
}

// A power of two that brings the longest row to a length in [0.5, 1).
double common_scale(const std::vector<double>& a, const std::vector<double>& b) {
    double largest = 0.0;
    for (double s : a) largest = std::max(largest, s);
    for (double s : b) largest = std::max(largest, s);
    int exponent = 0;
    std::frexp(std::sqrt(largest), &exponent);
    return largest > 0.0 ? std::ldexp(1.0, -exponent) : 1.0;
}

}  // namespace

Screen::Screen(Features query, Features gallery, Metric metric_, Options options_, const Product& product_)
    : metric(metric_),
      options(options_),
      product(product_),
      query_{query, {}, {}, {}},
      gallery_{gallery, {}, {}, {}},
      symmetric_(false) {
    scale_rows();
}

Screen::Screen(Features all, Metric metric_, Options options_, const Product& product_)
    : metric(metric_), options(options_), product(product_), query_{all, {}, {}, {}}, symmetric_(true) {
    scale_rows();
}

void Screen::measure_lengths(Side& side) {
    const Features& x = side.rows;
    side.squared.resize(x.rows);
    parallel_ranges(x.rows, 256, options.threads, [&](std::size_t begin, std::size_t end) {
        std::vector<float> room(x.half != nullptr ? x.cols : 0);
        for (std::size_t i = begin; i < end; ++i) {
            const float* row = options.kernels->floats(x, i, 0, x.cols, room.data());
            side.squared[i] = options.kernels->dot(row, row, x.cols);
        }
    });
}

void Screen::scale_rows() {
    measure_lengths(query_);
    measure_lengths(gallery_);
    if (metric == Metric::euclidean) unit_ = common_scale(query_.squared, gallery_.squared);
    for (Side* side : {&query_, &gallery_}) {
        side->scale.assign(side->rows.rows, unit_);
        side->offset.assign(side->rows.rows, 0.0F);
        for (std::size_t i = 0; i < side->rows.rows; ++i) {
            const double squared = side->squared[i];
            if (metric == Metric::cosine)
                side->scale[i] = squared > 0.0 ? 1.0 / std::sqrt(squared) : 0.0;
            else
                side->offset[i] = static_cast<float>(squared * unit_ * unit_);
        }
    }
    const std::size_t depth = query_.rows.cols;
    error = std::max(key_error(product, depth), key_error(options.kernels->accurate, depth));
    tie = key_tie(depth, unit_);
}

double Screen::key_of(std::size_t i, double d) const {
    if (metric == Metric::cosine) return 2.0 * d - 2.0;
    return (d * unit_) * (d * unit_) - query_.squared[i] * unit_ * unit_;
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
    const float own = metric == Metric::cosine ? 2.0F : query_.offset[i];
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
    const auto factor = static_cast<float>(metric == Metric::cosine ? 0.5 : 1.0 / unit_);
    if (metric == Metric::euclidean)
        for (std::size_t j = 0; j < n; ++j) out[j] = std::sqrt(out[j]);
    for (std::size_t j = 0; j < n; ++j) out[j] *= factor;
    for (const std::size_t j : refined) out[j] = exact(i, first + j);
}

}  // namespace stcanet
