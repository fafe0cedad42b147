// Rectified linear unit: y = max(x, 0) + slope * min(x, 0). In and out may be the same array; backward works from
// the output as well as from the input, since both have the same sign (slope >= 0).
#include "rows.cuh"

KERNEL relu_forward(ROWS, int width, real slope, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] > 0 ? a[i] : slope * a[i];
    }
}

KERNEL relu_backward(ROWS, int width, real slope, const real* in, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] > 0 ? g[i] : slope * g[i];
    }
}

// PReLU: a slope for each channel, or one for all (`channels` 1). Rows (n, c, inner row), lanes along an inner row.
KERNEL prelu_forward(ROWS, int width, int channels, int inner_rows, const real* slope, const real* in, real* out) {
    FOR_ROWS(r) {
        real s = slope[r / inner_rows % channels];
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] > 0 ? a[i] : s * a[i];
    }
}

KERNEL prelu_backward(ROWS, int width, int channels, int inner_rows, const real* slope, const real* in,
                      const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        real s = slope[r / inner_rows % channels];
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] > 0 ? g[i] : s * g[i];
    }
}

// What each element adds to its channel's slope gradient: g * x where x <= 0.
KERNEL prelu_slope_terms(ROWS, int width, const real* in, const real* out_diff, real* terms) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = terms + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] > 0 ? 0 : g[i] * a[i];
    }
}
