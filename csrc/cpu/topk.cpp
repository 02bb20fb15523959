#include "stcanet/topk.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "stcanet/parallel.hpp"
#include "stcanet/screen.hpp"

namespace stcanet {
namespace {

constexpr std::size_t kDirectRows = 4;    // with fewer queries the screen costs more than it saves
constexpr std::size_t kMinStripe = 1024;  // gallery rows below which a unit is not worth handing out

struct Hit {
    float distance;
    std::int64_t index;

    bool operator<(const Hit& other) const { return std::tie(distance, index) < std::tie(other.distance, other.index); }
};

// The shortlist of one query over one stripe of the gallery. Memory is O(k), whatever the data: when the screen cannot
// tell enough candidates apart (copies, ties), they are measured exactly at once and only the k best stay.
class Shortlist {
  public:
    Shortlist(const Screen& screen, std::size_t query, std::size_t k)
        : screen_(screen), query_(query), k_(k), capacity_(2 * k + 64) {}

    float limit() const { return limit_; }

    void push(float key, std::int64_t index) {
        pending_.push_back({key, index});
        if (pending_.size() >= capacity_) prune();
    }

    const std::vector<Hit>& finish() {
        tighten_by_keys();
        settle();
        return best_;
    }

  private:
    // k rows with a key up to K exist, so the k-th exact key is at most K + error, and no row with a key above
    // K + 2 error + tie can be among the k best, not even through rounding of its distance.
    void tighten_by_keys() {
        if (pending_.size() < k_) return;
        std::nth_element(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(k_ - 1), pending_.end());
        tighten(static_cast<double>(pending_[k_ - 1].distance) + 2.0 * screen_.error + screen_.tie);
    }

    void prune() {
        tighten_by_keys();
        pending_.erase(
            std::remove_if(pending_.begin(), pending_.end(), [&](const Hit& h) { return h.distance > limit_; }),
            pending_.end());
        if (pending_.size() > capacity_ / 2) settle();
    }

    void settle() {
        for (const Hit& candidate : pending_) {
            if (candidate.distance > limit_) continue;
            const auto j = static_cast<std::size_t>(candidate.index);
            best_.push_back({screen_.exact(query_, j), candidate.index});
        }
        pending_.clear();
        std::sort(best_.begin(), best_.end());
        if (best_.size() < k_) return;
        best_.resize(k_);
        tighten(screen_.key_of(query_, best_.back().distance) + screen_.error + screen_.tie);
    }

    void tighten(double key) {
        const float rounded_up = std::nextafter(static_cast<float>(key), std::numeric_limits<float>::infinity());
        limit_ = std::min(limit_, rounded_up);
    }

    const Screen& screen_;
    std::size_t query_, k_, capacity_;
    float limit_ = std::numeric_limits<float>::infinity();
    std::vector<Hit> pending_;  // `distance` holds the key
    std::vector<Hit> best_;     // exact, sorted, at most k
};

using Block = std::vector<Shortlist>;

void scan_directly(Groups groups, std::size_t i0, std::size_t begin, std::size_t end, Block& lists) {
    // A key of -infinity passes every limit: all rows are measured exactly.
    constexpr float always = -std::numeric_limits<float>::infinity();
    for (std::size_t j = begin; j < end; ++j)
        for (std::size_t i = 0; i < lists.size(); ++i)
            if (!groups.hides(i0 + i, j)) lists[i].push(always, static_cast<std::int64_t>(j));
}

void scan_by_keys(const Screen& screen, Groups groups, std::size_t i0, std::size_t begin, std::size_t end,
                  Block& lists) {
    KeyBlock block(screen, i0, lists.size());
    std::vector<std::uint32_t> hits(kBlockCols);
    for (std::size_t j0 = begin; j0 < end; j0 += kBlockCols) {
        const std::size_t cols = std::min(kBlockCols, end - j0);
        block.compute(j0, cols);
        for (std::size_t i = 0; i < lists.size(); ++i) {
            const float* keys = block.row(i);
            const std::size_t count = screen.kernels.below(keys, cols, lists[i].limit(), hits.data());
            for (std::size_t h = 0; h < count; ++h) {
                const std::size_t j = j0 + hits[h];
                if (keys[hits[h]] <= lists[i].limit() && !groups.hides(i0 + i, j))
                    lists[i].push(keys[hits[h]], static_cast<std::int64_t>(j));
            }
        }
    }
}

std::size_t count_stripes(std::size_t blocks, std::size_t gallery_rows, std::size_t threads) {
    const std::size_t wanted = (4 * resolve_threads(threads) + blocks - 1) / blocks;
    return std::clamp<std::size_t>(gallery_rows / kMinStripe, 1, wanted);
}

void write(std::vector<Hit> hits, std::size_t i, Matrix<float> distances, Matrix<std::int64_t> indices) {
    std::sort(hits.begin(), hits.end());
    for (std::size_t r = 0; r < distances.cols; ++r) {
        const bool found = r < hits.size();
        distances.row(i)[r] = found ? hits[r].distance : std::numeric_limits<float>::infinity();
        indices.row(i)[r] = found ? hits[r].index : -1;
    }
}

}  // namespace

void top_k(Features query, Features gallery, Metric metric, Groups groups, Options options, Matrix<float> distances,
           Matrix<std::int64_t> indices) {
    if (query.rows == 0 || distances.cols == 0) return;
    const std::size_t k = std::min(distances.cols, gallery.rows);
    const std::size_t blocks = (query.rows + kBlockRows - 1) / kBlockRows;
    const std::size_t stripes = count_stripes(blocks, gallery.rows, options.threads);
    const Screen screen(query, gallery, metric, options);
    std::vector<std::vector<Hit>> found(query.rows * stripes);  // exact, so that stripes merge without ambiguity
    parallel_for(k == 0 ? 0 : blocks * stripes, options.threads, [&](std::size_t unit) {
        const std::size_t i0 = unit / stripes * kBlockRows, rows = std::min(kBlockRows, query.rows - i0);
        const std::size_t s = unit % stripes;
        const std::size_t begin = gallery.rows * s / stripes, end = gallery.rows * (s + 1) / stripes;
        Block lists;
        lists.reserve(rows);
        for (std::size_t i = 0; i < rows; ++i) lists.emplace_back(screen, i0 + i, k);
        if (query.rows < kDirectRows)
            scan_directly(groups, i0, begin, end, lists);
        else
            scan_by_keys(screen, groups, i0, begin, end, lists);
        for (std::size_t i = 0; i < rows; ++i) found[(i0 + i) * stripes + s] = lists[i].finish();
    });
    for (std::size_t i = 0; i < query.rows; ++i) {
        std::vector<Hit> merged;
        for (std::size_t s = 0; s < stripes; ++s)
            merged.insert(merged.end(), found[i * stripes + s].begin(), found[i * stripes + s].end());
        write(std::move(merged), i, distances, indices);
    }
}

}  // namespace stcanet
