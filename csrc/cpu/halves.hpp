// float16 to float32, exact, once per instruction set: everything is in the unnamed namespace of its includer.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace stcanet::STCANET_ISA {
namespace {

// Finite values only. Subnormal halves are built from normal floats, so that flushing subnormals to zero, which others
// may have switched on for the thread, does not matter.
inline float widened(std::uint16_t x) {
    constexpr std::uint32_t bias = 112u << 23, smallest = 113u << 23;  // 2^-15 * 2 = 2^-14: the smallest normal half
    const std::uint32_t magnitude = (x & 0x7FFFu) << 13, sign = (x & 0x8000u) << 16;
    union Bits {
        std::uint32_t integer;
        float value;
    } normal{magnitude + bias}, subnormal{magnitude + smallest}, unit{smallest};
    subnormal.value -= unit.value;
    normal.integer = (magnitude < (1u << 23) ? subnormal.integer : normal.integer) | sign;
    return normal.value;
}

#ifdef __F16C__
// The instructions do not heed that switch.
inline __m256 widened_8(const std::uint16_t* x) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}
#endif

}  // namespace
}  // namespace stcanet::STCANET_ISA
