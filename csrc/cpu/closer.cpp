#include "stcanet/closer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "striped_lock.hpp"

namespace stcanet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
static_assert(kBlock % kKeyPadding == 0);

class Closer {
  public:
    Closer(const Screen& screen, Thresholds thresholds, std::int64_t* counts)
        : screen_(screen), thresholds_(thresholds), counts_(counts), locks_(rows(), kBlock) {
        std::vector<float> low, high;
        for (std::size_t i = 0; i < rows(); ++i) {
            for (std::int64_t k = thresholds.start[i]; k < thresholds.start[i + 1]; ++k) {
                const double key = screen.key_of(i, thresholds.distances[k]), unsure = screen.error + screen.tie;
                low.push_back(std::nextafter(static_cast<float>(key - unsure), -kInfinity));
                high.push_back(std::nextafter(static_cast<float>(key + unsure), kInfinity));
            }
        }
        low_ = ordered(low);
        above_ = ordered(high);
    }

    void visit(const Block& block) {
        thread_local std::vector<std::int64_t> certain, possible;
        for (std::size_t i = block.row; i < block.row + block.rows; ++i) {
            const auto first = static_cast<std::size_t>(thresholds_.start[i]);
            const auto n = static_cast<std::size_t>(thresholds_.start[i + 1]) - first;
            if (n == 0) continue;
            certain.assign(n, 0);
            possible.assign(n, 0);
            count_row(block, i, first, n, certain.data(), possible.data());
            const auto guard = locks_.hold(i);
            for (std::size_t k = 0; k < n; ++k) counts_[first + k] += certain[k];
        }
    }

  private:
    std::size_t rows() const { return screen_.query().rows.rows; }
    const Counting<float, std::int32_t>& counting() const { return screen_.options.kernels->of_float; }

    std::vector<std::int32_t> ordered(const std::vector<float>& values) const {
        std::vector<std::int32_t> keys((values.size() + kKeyPadding - 1) / kKeyPadding * kKeyPadding);
        counting().order(values.data(), values.size(), keys.data());
        keys.resize(values.size());
        return keys;
    }

    void count_row(const Block& block, std::size_t i, std::size_t first, std::size_t n, std::int64_t* certain,
                   std::int64_t* possible) const {
        float values[kBlock];
        std::int32_t keys[kBlock];
        const float *dots = block.products(i), *offset = screen_.gallery().offset.data() + block.col;
        for (std::size_t c = 0; c < block.cols; ++c) values[c] = offset[c] - 2.0F * dots[c];
        counting().order(values, block.cols, keys);
        // Most rows are behind all thresholds.
        std::int32_t near[kBlock + kKeyPadding];
        const std::int32_t limit = *std::max_element(above_.data() + first, above_.data() + first + n);
        const std::size_t size = counting().below(keys, block.cols, limit, near);
        counting().count(near, size, low_.data() + first, n, certain);
        counting().count(near, size, above_.data() + first, n, possible);
        bool measured[kBlock] = {};  // then the value is the distance
        for (std::size_t k = 0; k < n; ++k)
            if (possible[k] > certain[k]) certain[k] += count_unsure(block, i, first + k, keys, values, measured);
    }

    // Rows that the screen cannot tell from threshold k, and that come before it.
    std::int64_t count_unsure(const Block& block, std::size_t i, std::size_t k, const std::int32_t* keys, float* values,
                              bool* measured) const {
        std::int64_t count = 0;
        for (std::size_t c = 0; c < block.cols; ++c) {
            if (keys[c] < low_[k] || keys[c] >= above_[k]) continue;
            const std::size_t j = block.col + c;
            if (!measured[c]) values[c] = screen_.exact(i, j);
            measured[c] = true;
            const float d = values[c], limit = thresholds_.distances[k];
            if (d < limit || (d == limit && static_cast<std::int64_t>(j) < thresholds_.places[k])) ++count;
        }
        return count;
    }

    const Screen& screen_;
    const Thresholds thresholds_;
    std::int64_t* const counts_;
    StripedLock locks_;
    // Keys below `low_` come before the threshold, keys from `above_` on do not, whatever rounding did to keys and
    // distances; see "Ranks from embeddings" in csrc/README.md.
    std::vector<std::int32_t> low_, above_;
};

}  // namespace

void count_closer(Features query, Features gallery, Metric metric, Thresholds thresholds, Options options,
                  std::size_t scratch, std::int64_t* counts, const Progress& progress, const Watch& watch) {
    const Screen screen(query, gallery, metric, options, options.kernels->accurate, watch);
    Closer closer(screen, thresholds, counts);
    sweep(screen, scratch, [&](const Block& block) { closer.visit(block); }, progress);
}

}  // namespace stcanet
