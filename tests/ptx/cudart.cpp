// A CUDA runtime without a GPU, linked into _kernels_cuda in the place of NVIDIA's: device memory is that of the
// process, and a launch goes to a function that tests/ptx/device.py sets, with the PTX of the kernel. It minds what the
// driver minds: launches that a device of this kind refuses are refused here.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

// All else is hidden, so that the calls of the kernels meet these functions and not those of a CUDA runtime that
// PyTorch has loaded.
#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct Launch {
    dim3 grid, block;
    std::size_t shared;
    cudaStream_t stream;
};

struct Function {
    std::string name;
    const std::vector<std::string>* texts;  // of its module, one for each architecture
    std::size_t shared_limit = 48 * 1024;
};

using Run = int (*)(const char* name, const char* text, const unsigned* grid, unsigned threads, void** arguments,
                    std::size_t shared);

Run run = nullptr;
int capability = 80;
std::size_t shared_limit = 48 * 1024;
std::string message;
cudaError_t last = cudaSuccess;
Launch configured;

// Modules register themselves while this library is loaded.
std::map<const void*, Function>& functions() {
    static std::map<const void*, Function> all;
    return all;
}

cudaError_t fail(cudaError_t status, const std::string& why) {
    message = why;
    return last = status;
}

int target(const std::string& text) { return std::atoi(text.c_str() + text.find(".target sm_") + 11); }

cudaError_t start(const void* function, const Launch& launch, void** arguments) {
    const Function& called = functions().at(function);
    if (launch.shared > called.shared_limit)
        return fail(cudaErrorInvalidValue, "more shared memory than was asked for");
    if (launch.grid.x == 0 || launch.grid.y == 0 || launch.grid.z == 0 || launch.grid.y > 65535 ||
        launch.grid.z > 65535 || launch.block.y != 1 || launch.block.z != 1 || launch.block.x > 1024)
        return fail(cudaErrorInvalidConfiguration, "a grid that no device takes");
    const std::string* best = nullptr;  // as the driver chooses: the newest that the device knows
    for (const std::string& text : *called.texts)
        if (target(text) <= capability && (best == nullptr || target(text) > target(*best))) best = &text;
    if (best == nullptr) return fail(cudaErrorNoKernelImageForDevice, "no kernel for this device");
    const unsigned grid[3] = {launch.grid.x, launch.grid.y, launch.grid.z};
    if (run(called.name.c_str(), best->c_str(), grid, launch.block.x, arguments, launch.shared) != 0)
        return fail(cudaErrorLaunchFailure, called.name + " left its ground");
    return cudaSuccess;
}

}  // namespace

EXPORT void ptx_connect(Run runner) { run = runner; }

EXPORT void ptx_device(int generation, std::size_t shared) {
    capability = generation;
    shared_limit = shared;
}

extern "C" void** __cudaRegisterFatBinary(void* wrapper) {
    struct Wrapper {
        int magic, version;
        const char* data;
    };
    const char* const data = static_cast<Wrapper*>(wrapper)->data;
    std::uint64_t size;
    std::memcpy(&size, data + 8, 8);
    const std::string all(data, 16 + size);
    auto* texts = new std::vector<std::string>;
    for (std::size_t at = all.find(".version "); at != std::string::npos; at = all.find(".version ", at + 1))
        texts->emplace_back(all.c_str() + at);
    return reinterpret_cast<void**>(texts);
}
extern "C" void __cudaRegisterFatBinaryEnd(void**) {}
extern "C" void __cudaUnregisterFatBinary(void**) {}
extern "C" void __cudaRegisterFunction(void** module, const char* host, char*, const char* name, int, uint3*, uint3*,
                                       dim3*, dim3*, int*) {
    functions()[host] = {name, reinterpret_cast<std::vector<std::string>*>(module)};
}

extern "C" unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared, CUstream_st* stream) {
    configured = {grid, block, shared, stream};
    return 0;
}
extern "C" cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
    *grid = configured.grid;
    *block = configured.block;
    *shared = configured.shared;
    *static_cast<cudaStream_t*>(stream) = configured.stream;
    return cudaSuccess;
}
extern "C" cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
    *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
    return cudaSuccess;
}
extern "C" cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                                          std::size_t shared, cudaStream_t stream) {
    return start(kernel, {grid, block, shared, stream}, arguments);
}
cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                             cudaStream_t stream) {
    return start(function, {grid, block, shared, stream}, arguments);
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute, int bytes) {
    if (static_cast<std::size_t>(bytes) > shared_limit)
        return fail(cudaErrorInvalidValue, "more shared memory than there is");
    functions().at(function).shared_limit = static_cast<std::size_t>(bytes);
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    switch (attribute) {
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            *value = static_cast<int>(shared_limit);
            return cudaSuccess;
        case cudaDevAttrComputeCapabilityMajor:
            *value = capability / 10;
            return cudaSuccess;
        default:
            return fail(cudaErrorInvalidValue, "an attribute that nobody has asked for before");
    }
}
cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    return device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice, "no such device");
}
cudaError_t cudaGetLastError() {
    const cudaError_t status = last;
    last = cudaSuccess;
    return status;
}
const char* cudaGetErrorString(cudaError_t) { return message.c_str(); }
