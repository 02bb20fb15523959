// Views of memory that somebody else owns. The core knows no Python and never allocates results.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stcanet {

// Row-major and contiguous: element (i, j) is data[i * cols + j].
template <typename T>
struct Matrix {
    T* data = nullptr;
    std::size_t rows = 0;
    std::size_t cols = 0;

    T* row(std::size_t i) const { return data + i * cols; }
};

// Embeddings [N, D]: one array of float32, two seen as one (the queries before the gallery), or one of float16. They
// are never copied: the gallery may be a memory-mapped file larger than the memory.
struct Features {
    const float* data = nullptr;
    std::size_t rows = 0;
    std::size_t cols = 0;
    const float* rest = nullptr;  // rows from `split` on
    std::size_t split = static_cast<std::size_t>(-1);
    const std::uint16_t* half = nullptr;  // instead of data; read with Kernels::floats

    const float* row(std::size_t i) const { return i < split ? data + i * cols : rest + (i - split) * cols; }

    static Features joint(Features first, Features second) {
        return {first.data, first.rows + second.rows, first.cols, second.data, first.rows};
    }
};

// Gallery image j is invisible to query i when query[i] == gallery[j]. Both null: everything is visible.
struct Groups {
    const std::int64_t* query = nullptr;    // [Q]
    const std::int64_t* gallery = nullptr;  // [G]

    bool hides(std::size_t i, std::size_t j) const { return query != nullptr && query[i] == gallery[j]; }
};

}  // namespace stcanet
