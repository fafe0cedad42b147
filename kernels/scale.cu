// Scale: each channel times a factor, plus a bias. Channels are any run of axes; what follows them is `inner`.
//
//   y[o][c][s] = x[o][c][s] * factor[c] + bias[c]
#include "rows.cuh"

// Rows (o, c, inner row), lanes along an inner row. `factor` or `bias` may be null. In place is allowed.
KERNEL scale_forward(ROWS, int width, int channels, int inner_rows, const real* factor, const real* bias, const real* in,
                     real* out) {
    FOR_ROWS(r) {
        int c = r / inner_rows % channels;
        real scale = factor ? factor[c] : 1, shift = bias ? bias[c] : 0;
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] * scale + shift;
    }
}
