// The little of CUDA C that the kernels use, for a host C++ compiler: what follows is compiled as NVRTC would read it
// (the GPU's branch of rows.cuh), with the numbers of block and thread as variables that drive.h counts up.
#include <math.h>
#include <stddef.h>

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

// NVRTC knows no host header: what they define and it does not, a kernel may not use.
#undef INFINITY
#undef NAN
#undef HUGE_VAL
#undef M_PI

#define __CUDACC__ 1
#define __CUDACC_RTC__ 1
#define __CUDA_ARCH__ 800
#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict

struct Dim3 {
    unsigned x, y, z;
};
static thread_local Dim3 gridDim, blockDim, blockIdx, threadIdx;

// Threads know nothing of each other.
#pragma GCC poison __shared__ __syncthreads __syncwarp __shfl_sync __shfl_xor_sync __shfl_down_sync __shfl_up_sync
#pragma GCC poison atomicAdd atomicMax atomicMin atomicExch atomicCAS __threadfence __ballot_sync
