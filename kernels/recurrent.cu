// LSTMUnit: one time step of a long short-term memory; rows are streams, a row's gates lie in the order i, f, o, g.
//
//   i, o = sigmoid(gate)   f = cont * sigmoid(gate)   g = tanh(gate)
//   c = f * c_prev + i * g                             h = o * tanh(c)
//
// f's gradient takes the product with cont for the sigmoid's own value, as Caffe's does: cont is meant to be 0 or 1.
#include "rows.cuh"

KERNEL lstm_unit_forward(ROWS, int width, const real* c_prev, const real* gates, const real* cont, real* c, real* h) {
    FOR_ROWS(r) {
        size_t start = (size_t)r * width;
        const real* a = gates + 4 * start;
        FOR_LANES(k, width) {
            real i = sigmoid(a[k]), f = cont[r] * sigmoid(a[width + k]), o = sigmoid(a[2 * width + k]);
            real cell = f * c_prev[start + k] + i * tanh_real(a[3 * width + k]);
            c[start + k] = cell;
            h[start + k] = o * tanh_real(cell);
        }
    }
}

KERNEL lstm_unit_backward(ROWS, int width, const real* c_prev, const real* gates, const real* cont, const real* c,
                          const real* c_diff, const real* h_diff, real* c_prev_diff, real* gates_diff) {
    FOR_ROWS(r) {
        size_t start = (size_t)r * width;
        const real* a = gates + 4 * start;
        real* d = gates_diff + 4 * start;
        FOR_LANES(k, width) {
            real i = sigmoid(a[k]), f = cont[r] * sigmoid(a[width + k]), o = sigmoid(a[2 * width + k]);
            real g = tanh_real(a[3 * width + k]), t = tanh_real(c[start + k]), dh = h_diff[start + k];
            real dc = c_diff[start + k] + dh * o * (1 - t * t);
            c_prev_diff[start + k] = dc * f;
            d[k] = dc * g * i * (1 - i);
            d[width + k] = dc * c_prev[start + k] * f * (1 - f);
            d[2 * width + k] = dh * t * o * (1 - o);
            d[3 * width + k] = dc * i * (1 - g * g);
        }
    }
}
