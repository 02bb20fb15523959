// What the files of the inner loops define in the namespace of each instruction set.
#pragma once

#include "stcanet/isa.hpp"

namespace stcanet {

#define STCANET_DECLARE_ISA(name)     \
    namespace name {                  \
    void fill_tile(Kernels& table);   \
    void fill_exact(Kernels& table);  \
    void fill_count(Kernels& table);  \
    void fill_pixels(Kernels& table); \
    }

STCANET_DECLARE_ISA(generic)
STCANET_DECLARE_ISA(avx2)
STCANET_DECLARE_ISA(avx512)

#undef STCANET_DECLARE_ISA

// Products of lower precision, for the instruction sets that have them; they replace Kernels::screen.
namespace avx2 {
void fill_int16(Kernels& table);
}
namespace amx {
void fill_bfloat16(Kernels& table);
}

}  // namespace stcanet
