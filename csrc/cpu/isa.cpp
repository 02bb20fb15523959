#include "stcanet/isa.hpp"

#include "isa_table.hpp"

#ifdef STCANET_X86
#include <cpuid.h>
#endif
#ifdef STCANET_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace stcanet {
namespace {

using Fill = void (*)(Kernels&);

Kernels make(const char* name, std::initializer_list<Fill> fills) {
    Kernels table{};
    table.name = name;
    for (const Fill fill : fills) fill(table);
    return table;
}

#ifdef STCANET_X86
// Leaf 1; older compilers have no name for it.
bool has_f16c() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 29 & 1) != 0;
}
#endif

#ifdef STCANET_AMX
// Leaf 7: AMX-BF16 and AMX-TILE.
bool has_amx() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx >> 22 & 1) != 0 && (edx >> 24 & 1) != 0;
}

// Linux gives the 8 KiB of tile registers to processes that ask for them, for all of their threads.
bool tiles_permitted() {
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

std::vector<const Kernels*> detect() {
    static const Kernels generic_table =
        make("generic", {generic::fill_tile, generic::fill_exact, generic::fill_count, generic::fill_pixels});
    std::vector<const Kernels*> tables{&generic_table};
#ifdef STCANET_X86
    __builtin_cpu_init();  // also asks whether the operating system saves the wide registers
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) {
        static const Kernels avx2_table =
            make("avx2", {avx2::fill_tile, avx2::fill_exact, avx2::fill_count, avx2::fill_pixels, avx2::fill_int16});
        tables.push_back(&avx2_table);
        if (__builtin_cpu_supports("avx512f")) {
            static const Kernels avx512_table =
                make("avx512", {avx512::fill_tile, avx512::fill_exact, avx512::fill_count, avx512::fill_pixels});
            tables.push_back(&avx512_table);
#ifdef STCANET_AMX
            if (has_amx() && tiles_permitted()) {
                static const Kernels amx_table = make("amx", {avx512::fill_tile, avx512::fill_exact, avx512::fill_count,
                                                              avx512::fill_pixels, amx::fill_bfloat16});
                tables.push_back(&amx_table);
            }
#endif
        }
    }
#endif
    return tables;
}

}  // namespace

std::vector<const Kernels*> supported_kernels() {
    static const std::vector<const Kernels*> tables = detect();
    return tables;
}

}  // namespace stcanet
