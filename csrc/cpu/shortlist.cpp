#include "stcanet/shortlist.hpp"

#include <algorithm>
#include <cmath>

namespace stcanet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kFarCapacity = 16;

}  // namespace

void Smallest::offer(const Hit& hit) {
    if (heap_.size() == k_) {
        if (!(hit < heap_.front())) return;
        std::pop_heap(heap_.begin(), heap_.end());
        heap_.pop_back();
    }
    heap_.push_back(hit);
    std::push_heap(heap_.begin(), heap_.end());
}

const std::vector<Hit>& Smallest::sorted() {
    std::sort_heap(heap_.begin(), heap_.end());
    return heap_;
}

void Nearest::push(float key, std::size_t index) {
    if (key > limit_) return;
    if (pending_.empty()) pending_.reserve(capacity_);
    pending_.push_back({key, static_cast<std::int32_t>(index)});
    if (pending_.size() >= capacity_) prune();
}

const std::vector<Hit>& Nearest::finish() {
    tighten_by_keys();
    settle();
    pending_ = {};
    return best_;
}

// k rows with a key up to K exist, so the k-th exact key is at most K + error, and no row with a key above
// K + 2 error + tie can be among the k best, not even through rounding of its distance.
void Nearest::tighten_by_keys() {
    if (pending_.size() < k_) return;
    std::nth_element(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(k_ - 1), pending_.end());
    tighten(static_cast<double>(pending_[k_ - 1].value) + 2.0 * screen_->error + screen_->tie);
}

void Nearest::prune() {
    tighten_by_keys();
    pending_.erase(std::remove_if(pending_.begin(), pending_.end(), [&](const Hit& h) { return h.value > limit_; }),
                   pending_.end());
    if (pending_.size() > capacity_ / 2) settle();
}

void Nearest::settle() {
    thread_local std::vector<Hit> measured;  // not of the row: memory of a row is what its two lists hold at most
    measured.assign(best_.begin(), best_.end());
    for (const Hit& candidate : pending_) {
        if (candidate.value > limit_) continue;
        measured.push_back({screen_->exact(row_, static_cast<std::size_t>(candidate.index)), candidate.index});
    }
    pending_.clear();
    std::sort(measured.begin(), measured.end());
    measured.resize(std::min(measured.size(), k_));
    best_.reserve(k_);
    best_.assign(measured.begin(), measured.end());
    if (best_.size() == k_) tighten(screen_->key_of(row_, best_.back().value) + screen_->error + screen_->tie);
}

void Nearest::tighten(double key) { limit_ = std::min(limit_, std::nextafter(static_cast<float>(key), kInfinity)); }

void write_places(const std::vector<Hit>& best, std::size_t places, std::size_t first, float* distances,
                  std::int64_t* indices) {
    for (std::size_t r = 0; r < places; ++r) {
        distances[r] = r < best.size() ? best[r].value : kInfinity;
        indices[r] = r < best.size() ? best[r].index - static_cast<std::int64_t>(first) : -1;
    }
}

void Farthest::push(float key, std::size_t index) {
    if (key < limit_) return;
    pending_.push_back({key, static_cast<std::int32_t>(index)});
    // The mirror of Nearest: a row with this key exists, and one that is farther has no smaller exact key, up to `tie`.
    const double lowest = static_cast<double>(key) - 2.0 * screen_->error - screen_->tie;
    limit_ = std::max(limit_, std::nextafter(static_cast<float>(lowest), -kInfinity));
    if (pending_.size() >= kFarCapacity) settle();
}

float Farthest::finish() {
    settle();
    return best_;
}

void Farthest::settle() {
    std::sort(pending_.begin(), pending_.end(), [](const Hit& a, const Hit& b) { return b < a; });
    for (const Hit& candidate : pending_) {
        if (candidate.value < limit_) break;
        best_ = std::max(best_, screen_->exact(row_, static_cast<std::size_t>(candidate.index)));
        const double lowest = screen_->key_of(row_, best_) - screen_->error - screen_->tie;
        limit_ = std::max(limit_, std::nextafter(static_cast<float>(lowest), -kInfinity));
    }
    pending_.clear();
}

}  // namespace stcanet
