// One step of stochastic gradient descent with momentum, decay and clipping in a single pass (Caffe's SGDSolver):
//
//   g = diff * clip * share + decay * (w, or its sign for L1)
//   h = momentum * h + rate * g;  w = w - h
#include "rows.cuh"

KERNEL sgd_update(ROWS, int width, real clip, real share, real decay, int l1, real momentum, real rate, const real* diff,
                  real* history, real* weight) {
    FOR_ROWS(r) {
        const real* g = diff + (size_t)r * width;
        real* h = history + (size_t)r * width;
        real* w = weight + (size_t)r * width;
        FOR_LANES(i, width) {
            real sign = (real)((w[i] > 0) - (w[i] < 0));
            real step = g[i] * clip * share + decay * (l1 ? sign : w[i]);
            h[i] = momentum * h[i] + rate * step;
            w[i] -= h[i];
        }
    }
}
