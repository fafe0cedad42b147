// One source, two machines: the few macros every kernel is written with.
//
// A kernel works over rows. ROWS, its first parameter, is the range of rows a call computes; the next one,
// `int width`, is the number of lanes in a row. Rows and lanes are independent of each other: a kernel has no
// shared memory, no barrier and no atomic, so every way to split the work gives the same bits.
//
//   GPU (NVRTC)        rows over blockIdx.x and threadIdx.y, lanes over threadIdx.x, both with a grid stride
//   CPU (host C++)     plain loops; a worker thread gets a range of rows, the compiler vectorises the lanes
//
// The grid-stride step past the last row can exceed 2^31 (at 2^30 rows), so rows are counted unsigned.
// A macro argument must not be called x or y: it would replace the x of threadIdx.x.
#pragma once

#ifndef REAL
#define REAL float
#endif
typedef REAL real;

#define ROWS int row_begin, int row_end

#ifdef __CUDACC__

#define KERNEL extern "C" __global__ void
#define DEVICE __device__ inline
#define VECTORISE
#define ROLLED _Pragma("unroll 1")  // ahead of lanes that need so many registers that one at a time is enough
#define UNROLLED _Pragma("unroll")  // ahead of a loop over numbers that a thread keeps in registers
#define TILE 1  // a thread keeps one lane in registers
#define FOR_ROWS(r) \
    for (int r = row_begin + (int)(blockIdx.x * blockDim.y + threadIdx.y); (unsigned)r < (unsigned)row_end; \
         r = (int)((unsigned)r + gridDim.x * blockDim.y))
#define LANE_FIRST ((int)threadIdx.x)
#define LANE_STEP ((int)blockDim.x)

#else

#include <float.h>
#include <math.h>
#include <stddef.h>

#define KERNEL extern "C" void
#define DEVICE static inline
#define VECTORISE _Pragma("GCC ivdep")
#define ROLLED
#define UNROLLED
#define TILE 256  // lanes whose accumulators stay in the first-level cache
#define FOR_ROWS(r) for (int r = row_begin; r < row_end; ++r)
#define LANE_FIRST 0
#define LANE_STEP 1

#endif

#ifndef FLT_MAX
#define FLT_MAX 3.402823466e+38f
#define FLT_MIN 1.175494351e-38f
#endif

// Lanes of [begin, end), in no order.
#define FOR_SPAN(i, begin, end) VECTORISE for (int i = (begin) + LANE_FIRST; i < (end); i += LANE_STEP)
#define FOR_LANES(i, width) FOR_SPAN(i, 0, width)

// Lanes in tiles, for kernels whose lanes keep a running value: lane t + i has its own slot i of a `real v[TILE]`.
// FOR_TILE visits the tile's lanes; FOR_TILE_SPAN those of them that lie in [begin, end).
#define FOR_TILES(t, width) for (int t = LANE_FIRST * TILE; t < (width); t += LANE_STEP * TILE)
#define FOR_TILE_SPAN(i, t, begin, end) \
    VECTORISE for (int i = max_int(0, (begin) - (t)), i##_end = min_int(TILE, (end) - (t)); i < i##_end; ++i)
#define FOR_TILE(i, t, width) FOR_TILE_SPAN(i, t, 0, width)

DEVICE int min_int(int a, int b) { return a < b ? a : b; }
DEVICE int max_int(int a, int b) { return a > b ? a : b; }
// Quotients rounded towards minus and plus infinity; b > 0.
DEVICE int floor_div(int a, int b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
DEVICE int ceil_div(int a, int b) { return -floor_div(-a, b); }
// exp, log, pow and the like in the precision of `real`.
DEVICE float exp_real(float a) { return expf(a); }
DEVICE double exp_real(double a) { return exp(a); }
DEVICE float log_real(float a) { return logf(a); }
DEVICE double log_real(double a) { return log(a); }
DEVICE float log1p_real(float a) { return log1pf(a); }
DEVICE double log1p_real(double a) { return log1p(a); }
DEVICE float tanh_real(float a) { return tanhf(a); }
DEVICE double tanh_real(double a) { return tanh(a); }
DEVICE float sqrt_real(float a) { return sqrtf(a); }
DEVICE double sqrt_real(double a) { return sqrt(a); }
DEVICE float pow_real(float a, float b) { return powf(a, b); }
DEVICE double pow_real(double a, double b) { return pow(a, b); }
// 1 / (1 + exp(-a)), through tanh as Caffe has it.
DEVICE real sigmoid(real a) { return (real)0.5 * tanh_real((real)0.5 * a) + (real)0.5; }
// NaN, computed from a value of the run: neither a constant that a compiler folds nor a header that NVRTC lacks.
DEVICE real not_a_number(real a) { return (a - a) / (a - a); }
// Offset of channel 0 of row r = (outer, inner row) in an array of shape (outer, channels, inner rows, width).
DEVICE size_t channel_start(int r, int channels, int inner_rows, int width) {
    return ((size_t)(r / inner_rows) * channels * inner_rows + r % inner_rows) * width;
}
