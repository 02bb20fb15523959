#include "stcanet/screen.hpp"

#include <algorithm>
#include <cmath>

#include "stcanet/parallel.hpp"

namespace stcanet {
namespace {

constexpr double kUnit32 = 0x1p-24;  // unit roundoff of float32
constexpr double kUnit64 = 0x1p-53;

std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

std::vector<double> squared_lengths(Features x, const Kernels& kernels, std::size_t threads) {
    constexpr std::size_t chunk = 256;
    std::vector<double> result(x.rows);
    parallel_for(ceil_div(x.rows, chunk), threads, [&](std::size_t unit) {
        const std::size_t end = std::min(x.rows, (unit + 1) * chunk);
        for (std::size_t i = unit * chunk; i < end; ++i) result[i] = kernels.dot(x.row(i), x.row(i), x.cols);
    });
    return result;
}

std::vector<double> inverse_lengths(const std::vector<double>& squared) {
    std::vector<double> result(squared.size());
    std::transform(squared.begin(), squared.end(), result.begin(),
                   [](double s) { return s > 0.0 ? 1.0 / std::sqrt(s) : 0.0; });
    return result;
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

// See "Error of a key" in csrc/README.md: every line here is one term there.
double key_error(std::size_t depth) {
    const double roundings = static_cast<double>(std::min(depth, kBlockDepth) + ceil_div(depth, kBlockDepth) + 4);
    const double chains = 2.0 * 1.01 * roundings * kUnit32;
    const double offset_and_sum = 5.0 * kUnit32;
    const double underflow = static_cast<double>(depth) * 0x1p-120;
    return chains + offset_and_sum + underflow;
}

double key_tie(std::size_t depth, double unit) {
    const double rounded_result = 16.0 * kUnit32;
    const double float64_sums = 16.0 * (static_cast<double>(depth) + 16.0) * kUnit64;
    const double subnormal_result = 8.0 * 0x1p-149 * unit * (1.0 + 0x1p-149 * unit);
    return rounded_result + float64_sums + subnormal_result;
}

// Packs rows [first, first + rows) of x, columns [p0, p0 + depth), into tiles [depth, width]; missing rows are zero.
void pack(Features x, const std::vector<double>& scale, double factor, std::size_t first, std::size_t rows,
          std::size_t p0, std::size_t depth, std::size_t width, float* out) {
    for (std::size_t t = 0; t < rows; t += width, out += depth * width) {
        for (std::size_t r = 0; r < width; ++r) {
            if (t + r >= rows) {
                for (std::size_t p = 0; p < depth; ++p) out[p * width + r] = 0.0F;
                continue;
            }
            const float* source = x.row(first + t + r) + p0;
            const double s = scale[first + t + r] * factor;
            for (std::size_t p = 0; p < depth; ++p) out[p * width + r] = static_cast<float>(source[p] * s);
        }
    }
}

}  // namespace

Screen::Screen(Features query_, Features gallery_, Metric metric_, Options options)
    : query(query_),
      gallery(gallery_),
      metric(metric_),
      kernels(*options.kernels),
      q_sq_(squared_lengths(query_, *options.kernels, options.threads)),
      g_sq_(squared_lengths(gallery_, *options.kernels, options.threads)),
      offset_(gallery_.rows, 0.0F) {
    if (metric == Metric::cosine) {
        q_scale_ = inverse_lengths(q_sq_);
        g_scale_ = inverse_lengths(g_sq_);
    } else {
        unit_ = common_scale(q_sq_, g_sq_);
        q_scale_.assign(query.rows, unit_);
        g_scale_.assign(gallery.rows, unit_);
        for (std::size_t j = 0; j < gallery.rows; ++j) offset_[j] = static_cast<float>(g_sq_[j] * unit_ * unit_);
    }
    error = key_error(query.cols);
    tie = key_tie(query.cols, unit_);
}

double Screen::key_of(std::size_t i, double d) const {
    if (metric == Metric::cosine) return 2.0 * d - 2.0;
    return (d * unit_) * (d * unit_) - q_sq_[i] * unit_ * unit_;
}

double Screen::squared_gap(std::size_t i, double key) const {
    return metric == Metric::cosine ? 2.0 + key : q_sq_[i] * unit_ * unit_ + key;
}

double Screen::distance_of_gap(double gap) const {
    return metric == Metric::cosine ? std::clamp(gap / 2.0, 0.0, 2.0) : std::sqrt(std::max(gap, 0.0)) / unit_;
}

float Screen::exact(std::size_t i, std::size_t j) const {
    return exact_distance(kernels, metric, query.row(i), gallery.row(j), query.cols, q_sq_[i], g_sq_[j]);
}

KeyBlock::KeyBlock(const Screen& screen, std::size_t first, std::size_t rows)
    : screen_(screen),
      rows_(rows),
      packed_query_(ceil_div(rows, screen.kernels.tile_rows) * screen.kernels.tile_rows * screen.query.cols),
      packed_gallery_(kBlockCols * std::min(kBlockDepth, screen.query.cols)),
      keys_(kBlockRows * kBlockCols) {
    const std::size_t width = screen.kernels.tile_rows;
    const std::size_t padded = ceil_div(rows, width) * width;
    for (std::size_t p0 = 0; p0 < screen.query.cols; p0 += kBlockDepth) {
        const std::size_t depth = std::min(kBlockDepth, screen.query.cols - p0);
        pack(screen.query, screen.q_scale_, -2.0, first, rows, p0, depth, width, packed_query_.data() + p0 * padded);
    }
}

void KeyBlock::compute(std::size_t first, std::size_t cols) {
    const Kernels& kernels = screen_.kernels;
    const std::size_t mr = kernels.tile_rows, nr = kernels.tile_cols, total = screen_.query.cols;
    const std::size_t padded = ceil_div(rows_, mr) * mr;
    for (std::size_t p0 = 0; p0 < total; p0 += kBlockDepth) {
        const std::size_t depth = std::min(kBlockDepth, total - p0);
        pack(screen_.gallery, screen_.g_scale_, 1.0, first, cols, p0, depth, nr, packed_gallery_.data());
        const float* a = packed_query_.data() + p0 * padded;
        for (std::size_t j = 0; j < cols; j += nr)
            for (std::size_t i = 0; i < rows_; i += mr)
                kernels.tile(a + i * depth, packed_gallery_.data() + j * depth, depth,
                             keys_.data() + i * kBlockCols + j, kBlockCols, p0 != 0);
    }
    const float* offset = screen_.offset_.data() + first;
    for (std::size_t i = 0; i < rows_; ++i)
        for (std::size_t j = 0; j < cols; ++j) keys_[i * kBlockCols + j] += offset[j];
}

}  // namespace stcanet
