// One lock for each block of rows.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

namespace stcanet {

class StripedLock {
  public:
    StripedLock(std::size_t rows, std::size_t rows_per_lock)
        : rows_per_lock_(rows_per_lock), locks_(rows / rows_per_lock + 1) {}

    std::unique_lock<std::mutex> hold(std::size_t row) {
        return std::unique_lock<std::mutex>(locks_[row / rows_per_lock_]);
    }

  private:
    std::size_t rows_per_lock_;
    std::vector<std::mutex> locks_;
};

}  // namespace stcanet
