// How the kernels of the GPU backend are written, and how Python launches them.
//
// Bodies are templates over Exec, which is one thread:
//   thread()  threads()  sync()  shared()    of the block, for BLOCK_KERNEL alone
//   add(p, x)  raise(p, x)                   atomics; add gives the value before
//   exp(x)                                   of float64
//   kLanes  shuffle_xor(x, mask)             threads that share a sum, 16 or 1
// CuPy compiles the files when they are first used, with this one in the place of its #include; the tests compile them
// for the CPU, and define what Exec and the entries are there. Without fused multiply-adds: the sums of the definitions
// are not fused (csrc/cpu/exact.cpp). Nothing else is included: the compiler that CuPy brings finds no standard
// headers.

#ifndef STCANET_LAUNCH_CUH
#define STCANET_LAUNCH_CUH

#ifndef STCANET_DEVICE
#define STCANET_DEVICE __device__ __forceinline__
#endif

typedef long long Long;  // int64, and int is int32, on every platform that CUDA has
typedef unsigned char Flag;
typedef unsigned char Byte;

constexpr int kPartials = 16;  // of the definition of a distance, see reference.py

// Entries are name_kernel(count, …): a thread each for count items (KERNEL), kPartials threads each (LANE_KERNEL), a
// block each (BLOCK_KERNEL). Structs are passed as their fields, since Python launches them.

#ifdef __CUDACC__
struct Device {
    static constexpr int kLanes = kPartials;
    __device__ static int thread() { return static_cast<int>(threadIdx.x); }
    __device__ static int threads() { return static_cast<int>(blockDim.x); }
    __device__ static void sync() { __syncthreads(); }
    __device__ static char* shared() {
        __shared__ int memory[32];
        return reinterpret_cast<char*>(memory);
    }
    __device__ static int add(int* place, int value) { return atomicAdd(place, value); }
    __device__ static void raise(unsigned* place, unsigned value) { atomicMax(place, value); }
    __device__ static double exp(double x) { return ::exp(x); }
    // The other half of the warp may have nothing to do.
    __device__ static double shuffle_xor(double x, int mask) {
        return __shfl_xor_sync(0xffffU << (threadIdx.x % 32 / kPartials * kPartials), x, mask);
    }
};

#define UNPACK(...) __VA_ARGS__
#define KERNEL(name, parameters, arguments)                                         \
    extern "C" __global__ void name##_kernel(Long count, UNPACK parameters) {       \
        const Long item = static_cast<Long>(blockIdx.x) * blockDim.x + threadIdx.x; \
        Device exec;                                                                \
        if (item < count) name(exec, item, UNPACK arguments);                       \
    }
#define LANE_KERNEL(name, parameters, arguments)                                                    \
    extern "C" __global__ void name##_kernel(Long count, UNPACK parameters) {                       \
        const Long thread = static_cast<Long>(blockIdx.x) * blockDim.x + threadIdx.x;               \
        Device exec;                                                                                \
        if (thread / kPartials < count)                                                             \
            name(exec, thread / kPartials, static_cast<int>(thread % kPartials), UNPACK arguments); \
    }
#define BLOCK_KERNEL(name, parameters, arguments)                       \
    extern "C" __global__ void name##_kernel(Long, UNPACK parameters) { \
        Device exec;                                                    \
        name(exec, static_cast<Long>(blockIdx.x), UNPACK arguments);    \
    }
#endif

#endif  // STCANET_LAUNCH_CUH
