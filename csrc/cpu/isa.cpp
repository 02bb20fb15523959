#include "stcanet/isa.hpp"

#include "isa_table.hpp"

namespace stcanet {
namespace {

using Fill = void (*)(Kernels&);

Kernels make(Isa isa, const char* name, std::initializer_list<Fill> fills) {
    Kernels table{};
    table.isa = isa;
    table.name = name;
    for (const Fill fill : fills) fill(table);
    return table;
}

std::vector<const Kernels*> detect() {
    static const Kernels generic_table =
        make(Isa::generic, "generic", {generic::fill_tile, generic::fill_exact, generic::fill_count});
    std::vector<const Kernels*> tables{&generic_table};
#ifdef STCANET_X86
    __builtin_cpu_init();  // also asks whether the operating system saves the wide registers
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        static const Kernels avx2_table =
            make(Isa::avx2, "avx2", {avx2::fill_tile, avx2::fill_exact, avx2::fill_count, avx2::fill_int16});
        tables.push_back(&avx2_table);
        if (__builtin_cpu_supports("avx512f")) {
            static const Kernels avx512_table =
                make(Isa::avx512, "avx512", {avx512::fill_tile, avx512::fill_exact, avx512::fill_count});
            tables.push_back(&avx512_table);
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
