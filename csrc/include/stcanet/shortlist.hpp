// What a search keeps of one row: candidates that the screen cannot exclude, in memory that does not depend on the
// data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "stcanet/screen.hpp"

namespace stcanet {

struct Hit {
    float value;  // a key, or a distance
    std::int32_t index;

    bool operator<(const Hit& other) const {
        return value < other.value || (value == other.value && index < other.index);
    }
};

// The k smallest of what is offered.
class Smallest {
  public:
    explicit Smallest(std::size_t k) : k_(k) { heap_.reserve(k); }

    void clear() { heap_.clear(); }
    void offer(const Hit& hit);
    // What has a larger value is not among them.
    float limit() const { return heap_.size() < k_ ? std::numeric_limits<float>::infinity() : heap_.front().value; }
    // In their order, once; fewer than k when fewer were offered.
    const std::vector<Hit>& sorted();

  private:
    std::size_t k_;
    std::vector<Hit> heap_;  // the worst in front
};

// The k nearest rows. When the screen cannot tell enough candidates apart (copies, ties), they are measured exactly at
// once and only the k best stay.
class Nearest {
  public:
    Nearest(const Screen& screen, std::size_t row, std::size_t k)
        : screen_(&screen), row_(row), k_(k), capacity_(2 * k + 64) {}

    // Rows with a larger key are not among the k nearest.
    float limit() const { return limit_; }
    void push(float key, std::size_t index);
    // Exact distances, by (distance, index); fewer than k when fewer were pushed.
    const std::vector<Hit>& finish();

  private:
    void tighten_by_keys();
    void prune();
    void settle();
    void tighten(double key);

    const Screen* screen_;
    std::size_t row_, k_, capacity_;
    float limit_ = std::numeric_limits<float>::infinity();
    std::vector<Hit> pending_;  // keys
    std::vector<Hit> best_;     // exact distances, sorted, at most k
};

// Writes a list into `places` places; those that are left hold +infinity and -1. Indices are counted from `first`.
void write_places(const std::vector<Hit>& best, std::size_t places, std::size_t first, float* distances,
                  std::int64_t* indices);

// The largest distance to any row.
class Farthest {
  public:
    Farthest(const Screen& screen, std::size_t row) : screen_(&screen), row_(row) {}

    // Rows with a smaller key are not the farthest.
    float limit() const { return limit_; }
    void push(float key, std::size_t index);
    float finish();

  private:
    void settle();

    const Screen* screen_;
    std::size_t row_;
    float limit_ = -std::numeric_limits<float>::infinity();
    float best_ = 0.0F;  // distances are not negative
    std::vector<Hit> pending_;
};

}  // namespace stcanet
