// One lock for each block of rows; blocks are counted from row 0 and again from row `split`.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

namespace stcanet {

class StripedLock {
  public:
    StripedLock(std::size_t rows, std::size_t rows_per_lock, std::size_t split = 0)
        : rows_per_lock_(rows_per_lock), split_(split), locks_(rows / rows_per_lock + 2) {}

    std::unique_lock<std::mutex> hold(std::size_t row) {
        const std::size_t before = (split_ + rows_per_lock_ - 1) / rows_per_lock_;
        return std::unique_lock<std::mutex>(
            locks_[row < split_ ? row / rows_per_lock_ : before + (row - split_) / rows_per_lock_]);
    }

  private:
    std::size_t rows_per_lock_, split_;
    std::vector<std::mutex> locks_;
};

}  // namespace stcanet
