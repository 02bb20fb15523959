// The tiles of bfloat16.hpp as instructions of AMX. In assembly, since the intrinsics want the numbers of registers as
// text.
#include "bfloat16.hpp"
#include "isa_table.hpp"

namespace stcanet::STCANET_ISA {
namespace {

struct Instructions {
    // Palette 1; eight registers of 16 rows of 64 bytes.
    static void begin() {
        struct alignas(64) {
            std::uint8_t palette, start_row, reserved[14];
            std::uint16_t bytes[16];
            std::uint8_t rows[16];
        } shape = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
        asm volatile("ldtilecfg %0" : : "m"(shape));
    }

    // The registers are 8 KiB of state that the system would have to save.
    static void end() { asm volatile("tilerelease"); }

    template <int kTile>
    static void zero() {
        asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
    }

    template <int kTile>
    static void load(const void* memory, std::size_t stride) {
        asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(memory), "r"(stride), "i"(kTile) : "memory");
    }

    template <int kTile>
    static void store(void* memory, std::size_t stride) {
        asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(memory), "r"(stride), "i"(kTile) : "memory");
    }

    template <int kSum, int kA, int kB>
    static void multiply() {
        asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
    }
};

}  // namespace

void fill_bfloat16(Kernels& table) { table.screen = bfloat16_product<Instructions>(); }

}  // namespace stcanet::STCANET_ISA
