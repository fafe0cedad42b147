// Bias and the activation that follows it, in one pass over what a convolution has just written.
//
//   y[c][s] = f(y[c][s] + bias[c]),  f(v) = v > 0 ? v : slope * v
//
// slope 1 is no activation, slope 0 a ReLU.
#include "rows.cuh"

// Rows (c, s of channel_rows), lanes along the row; channels lie channel_stride apart.
KERNEL bias_forward(ROWS, int width, int channel_rows, int channel_stride, real slope, const real* bias, real* out) {
    FOR_ROWS(r) {
        int c = r / channel_rows;
        real* b = out + (size_t)c * channel_stride + (size_t)(r % channel_rows) * width;
        real shift = bias ? bias[c] : 0;
        FOR_LANES(i, width) {
            real v = b[i] + shift;
            b[i] = v > 0 ? v : slope * v;
        }
    }
}
