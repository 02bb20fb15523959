// The tile kernel of bfloat16.hpp on a model of AMX, so that it is tested on every machine. TDPBF16PS as published: for
// each sum two chains of fused multiply-adds in float32, over the even and the odd columns, which are added up and then
// added to the sum; always to the nearest even, subnormal values are zero before and after every operation.
#include "amx_model.hpp"

#include <cmath>
#include <cstring>

#include "bfloat16.hpp"

namespace stcanet::amx_model {
namespace {

thread_local unsigned char registers[8][1024];
thread_local bool configured = false;

float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0F, x) : x; }

float wide(const unsigned char* bfloat16) {
    unsigned char bytes[4] = {0, 0, bfloat16[0], bfloat16[1]};
    float value;
    std::memcpy(&value, bytes, 4);
    return flushed(value);
}

struct Model {
    static void begin() {
        std::memset(registers, 0, sizeof registers);
        configured = true;
    }

    static void end() {
        std::memset(registers, 0xFF, sizeof registers);  // NaN
        configured = false;
    }

    template <int kTile>
    static void zero() {
        std::memset(registers[kTile], 0, sizeof registers[kTile]);
    }

    template <int kTile>
    static void load(const void* memory, std::size_t stride) {
        for (int row = 0; configured && row < 16; ++row)
            std::memcpy(registers[kTile] + 64 * row, static_cast<const char*>(memory) + stride * row, 64);
    }

    template <int kTile>
    static void store(void* memory, std::size_t stride) {
        for (int row = 0; row < 16; ++row)
            std::memcpy(static_cast<char*>(memory) + stride * row, registers[kTile] + 64 * row, 64);
    }

    template <int kSum, int kA, int kB>
    static void multiply() {
        for (int m = 0; m < 16; ++m)
            for (int n = 0; n < 16; ++n) {
                float chain[2] = {0.0F, 0.0F}, sum;
                for (int k = 0; k < 16; ++k)
                    for (int l = 0; l < 2; ++l)
                        chain[l] = flushed(std::fma(wide(registers[kA] + 64 * m + 4 * k + 2 * l),
                                                    wide(registers[kB] + 64 * k + 4 * n + 2 * l), chain[l]));
                std::memcpy(&sum, registers[kSum] + 64 * m + 4 * n, 4);
                sum = flushed(flushed(sum) + flushed(chain[0] + chain[1]));
                std::memcpy(registers[kSum] + 64 * m + 4 * n, &sum, 4);
            }
    }
};

}  // namespace

Kernels kernels() {
    Kernels table = *supported_kernels().front();
    table.name = "amx-model";
    table.screen = bfloat16_product<Model>();
    return table;
}

}  // namespace stcanet::amx_model
