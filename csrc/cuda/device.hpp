// One thread of a block on a GPU: what fragments.hpp asks of Exec.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "fragments.hpp"

namespace stcanet::cuda {

extern __shared__ __align__(16) char dynamic_shared[];

class Device {
  public:
    STCANET_DEVICE static int thread() { return static_cast<int>(threadIdx.x); }
    STCANET_DEVICE static void sync() { __syncthreads(); }
    STCANET_DEVICE static char* shared() { return dynamic_shared; }
    STCANET_DEVICE static float exp(float x) { return __expf(x); }
    STCANET_DEVICE static float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffU, x, mask); }

    STCANET_DEVICE static void load_matrices(std::uint32_t (&f)[4], const void* address) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3])
                     : "r"(shared_address(address))
                     : "memory");
    }

    STCANET_DEVICE static void load_matrices_across(std::uint32_t (&f)[4], const void* address) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3])
                     : "r"(shared_address(address))
                     : "memory");
    }

    STCANET_DEVICE static void multiply(Fp16, float* c, const std::uint32_t (&a)[4], std::uint32_t b0,
                                        std::uint32_t b1) {
#if __CUDA_ARCH__ >= 800
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
        multiply_half_step(c, a[0], a[1], b0);
        multiply_half_step(c, a[2], a[3], b1);
#endif
    }

#if __CUDA_ARCH__ >= 800
    STCANET_DEVICE static void multiply(Bf16, float* c, const std::uint32_t (&a)[4], std::uint32_t b0,
                                        std::uint32_t b1) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }

    STCANET_DEVICE static void multiply(Tf32, float* c, const std::uint32_t (&a)[4], std::uint32_t b0,
                                        std::uint32_t b1) {
        asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }

    STCANET_DEVICE static std::uint32_t round_tf32(float x) {
        std::uint32_t bits;
        asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
        return bits;
    }
#endif

    // 16 bytes, or zeros. In the background from Ampere on.
    STCANET_DEVICE static void copy(void* to, const void* from, bool inside) {
#if __CUDA_ARCH__ >= 800
        const int bytes = inside ? 16 : 0;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     :
                     : "r"(shared_address(to)), "l"(__cvta_generic_to_global(from)), "r"(bytes)
                     : "memory");
#else
        *static_cast<uint4*>(to) = inside ? *static_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
#endif
    }

    STCANET_DEVICE static void commit() {
#if __CUDA_ARCH__ >= 800
        asm volatile("cp.async.commit_group;" ::: "memory");
#endif
    }

    // Until at most `Left` of this thread's groups are still on their way.
    template <int Left>
    STCANET_DEVICE static void wait() {
#if __CUDA_ARCH__ >= 800
        asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
#endif
    }

    STCANET_DEVICE static float to_float(Bf16, std::uint16_t bits) {
        return __bfloat162float(__ushort_as_bfloat16(bits));
    }
    STCANET_DEVICE static float to_float(Fp16, std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
    STCANET_DEVICE static std::uint16_t from_float(Bf16, float x) {
        return __bfloat16_as_ushort(__float2bfloat16_rn(x));
    }
    STCANET_DEVICE static std::uint16_t from_float(Fp16, float x) { return __half_as_ushort(__float2half_rn(x)); }

  private:
    STCANET_DEVICE static std::uint32_t shared_address(const void* pointer) {
        return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
    }

    // Turing multiplies half the depth at a time.
    STCANET_DEVICE static void multiply_half_step(float* c, std::uint32_t a0, std::uint32_t a1, std::uint32_t b) {
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a0), "r"(a1), "r"(b));
    }
};

}  // namespace stcanet::cuda
