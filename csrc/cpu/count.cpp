// Counting without sorting, compiled once per instruction set: how many values of a row come before each of a few
// thresholds. Values are first turned into integers of the same order, so that +infinity, zeros of either sign and
// subnormal values (whatever the processor is told to flush) need no cases of their own.
// Nothing from the standard library's templates in this file; see isa.hpp.
#include <cstddef>
#include <cstdint>

#include "isa_table.hpp"

#ifdef __AVX512F__
#include <immintrin.h>  // compression: vector extensions have none
#endif

namespace stcanet::STCANET_ISA {
namespace {

constexpr std::size_t kBytes = STCANET_LANES * sizeof(float);  // of a register
constexpr std::size_t kGroup = 8;  // thresholds per pass: their counts and levels fill the registers
// Values are counted some at a time, and the processor's own prefetching ends where reading pauses.
constexpr std::size_t kAhead = 2048;

template <typename Key>
struct Lanes {
    typedef Key Vector __attribute__((vector_size(kBytes), aligned(sizeof(Key)), may_alias));
    static constexpr std::size_t count = kBytes / sizeof(Key);
    static constexpr int sign_bit = 8 * sizeof(Key) - 1;
    static constexpr Key highest = static_cast<Key>(~(Key{1} << sign_bit));  // also masks the magnitude of a float
};

template <typename Key>
using Vector = typename Lanes<Key>::Vector;

template <typename Key>
Vector<Key> load(const void* x) {
    return *static_cast<const Vector<Key>*>(x);
}

template <typename Key>
std::size_t pad(Key* keys, std::size_t n) {
    for (std::size_t i = n; i % kKeyPadding != 0; ++i) keys[i] = Lanes<Key>::highest;
    return n;
}

// Floats as integers of the same order, from magnitude and sign (all ones or zero); both zeros become 0.
template <typename Real, typename Key>
bool order(const Real* values, std::size_t n, Key* keys) {
    constexpr std::size_t lanes = Lanes<Key>::count;
    constexpr Key highest = Lanes<Key>::highest, mantissa = sizeof(Key) == 4 ? 23 : 52;
    constexpr Key infinity = (highest >> mantissa) << mantissa;
    Vector<Key> nan = {};
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        const Vector<Key> bits = load<Key>(values + i), magnitude = bits & highest, sign = bits >> Lanes<Key>::sign_bit;
        nan |= magnitude > infinity;
        __builtin_prefetch(values + i + kAhead);
        *reinterpret_cast<Vector<Key>*>(keys + i) = (magnitude ^ sign) - sign;
    }
    Key any = 0;
    for (std::size_t l = 0; l < lanes; ++l) any |= nan[l];
    for (; i < n; ++i) {
        Key bits;
        __builtin_memcpy(&bits, values + i, sizeof(Key));
        const Key magnitude = bits & highest, sign = bits >> Lanes<Key>::sign_bit;
        any |= magnitude > infinity ? 1 : 0;
        keys[i] = (magnitude ^ sign) - sign;
    }
    pad(keys, n);
    return any != 0;
}

// Appends the lanes below the limit.
#ifdef __AVX512F__
std::size_t append(std::int32_t* out, Vector<std::int32_t> keys, Vector<std::int32_t> limit) {
    const __mmask16 mask = _mm512_cmplt_epi32_mask((__m512i)keys, (__m512i)limit);
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(mask, (__m512i)keys));
    return static_cast<std::size_t>(__builtin_popcount(mask));
}

std::size_t append(std::int64_t* out, Vector<std::int64_t> keys, Vector<std::int64_t> limit) {
    const __mmask8 mask = _mm512_cmplt_epi64_mask((__m512i)keys, (__m512i)limit);
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi64(mask, (__m512i)keys));
    return static_cast<std::size_t>(__builtin_popcount(mask));
}
#else
template <typename Key>
std::size_t append(Key* out, const Vector<Key>& keys, const Vector<Key>& limit) {
    std::size_t count = 0;
    for (std::size_t l = 0; l < Lanes<Key>::count; ++l) {
        out[count] = keys[l];
        count += keys[l] < limit[l] ? 1 : 0;
    }
    return count;
}
#endif

template <typename Key>
std::size_t below(const Key* keys, std::size_t n, Key limit, Key* out) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < n; i += Lanes<Key>::count)
        count += append(out + count, load<Key>(keys + i), Vector<Key>{} + limit);
    return pad(out, count);
}

template <typename Key>
Key total(const Vector<Key>& counts) {
    Key sum = 0;
    for (std::size_t l = 0; l < Lanes<Key>::count; ++l) sum += counts[l];
    return sum;
}

template <typename Key>
void count_group(const Key* keys, std::size_t n, const Key* levels, std::size_t thresholds, std::int64_t* counts) {
    Vector<Key> level[kGroup], sum[kGroup] = {};
#pragma GCC unroll 8
    for (std::size_t k = 0; k < kGroup; ++k)  // the lowest integer counts nothing
        level[k] = Vector<Key>{} + (k < thresholds ? levels[k] : ~Lanes<Key>::highest);
    for (std::size_t i = 0; i < n; i += Lanes<Key>::count) {
        const Vector<Key> key = load<Key>(keys + i);
#pragma GCC unroll 8
        for (std::size_t k = 0; k < kGroup; ++k) sum[k] = key < level[k] ? sum[k] + 1 : sum[k];
    }
    for (std::size_t k = 0; k < thresholds; ++k) counts[k] += total<Key>(sum[k]);
}

template <typename Key>
void count(const Key* keys, std::size_t n, const Key* levels, std::size_t thresholds, std::int64_t* counts) {
    for (std::size_t k = 0; k < thresholds; k += kGroup)
        count_group(keys, n, levels + k, thresholds - k < kGroup ? thresholds - k : kGroup, counts + k);
}

template <typename Key>
std::int64_t equal(const Key* keys, std::size_t n, Key level) {
    Vector<Key> sum = {};
    std::size_t i = 0;
    for (; i + Lanes<Key>::count <= n; i += Lanes<Key>::count) sum -= load<Key>(keys + i) == level;
    Key count = total<Key>(sum);
    for (; i < n; ++i) count += keys[i] == level ? 1 : 0;
    return count;
}

}  // namespace

void fill_count(Kernels& table) {
    table.of_float = {order<float, std::int32_t>, below<std::int32_t>, count<std::int32_t>, equal<std::int32_t>};
    table.of_double = {order<double, std::int64_t>, below<std::int64_t>, count<std::int64_t>, equal<std::int64_t>};
}

}  // namespace stcanet::STCANET_ISA
