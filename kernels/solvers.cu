// A step of each of Caffe's solvers in a single pass: clipping, accumulation and decay, the solver's rule, the update.
//
//   g = diff * clip * share + decay * (w, or its sign for L1);  diff = the step, by the rule;  w = w - diff
//
//   SGD                h = momentum * h + rate * g;  step = h
//   Nesterov           h as for SGD;  step = (1 + momentum) * h - momentum * (h as it was)
//   AdaGrad, RMSProp   h = keep * h + fresh * g^2;  step = rate * g / (sqrt(h) + delta)
//   AdaDelta           h = momentum * h + (1 - momentum) * g^2;  u = g * sqrt((steps + delta) / (h + delta));
//                      steps = momentum * steps + (1 - momentum) * u^2;  step = rate * u
//   Adam               mean = beta1 * mean + (1 - beta1) * g;  square = beta2 * square + (1 - beta2) * g^2;
//                      step = rate * mean / (sqrt(square) + delta)
#include "rows.cuh"

DEVICE real solver_gradient(real diff, real weight, real clip, real share, real decay, int l1) {
    real sign = (real)((weight > 0) - (weight < 0));
    return diff * clip * share + decay * (l1 ? sign : weight);
}

KERNEL sgd_update(ROWS, int width, real clip, real share, real decay, int l1, real rate, real momentum, real* diff,
                  real* history, real* weight) {
    FOR_ROWS(r) {
        real* d = diff + (size_t)r * width;
        real* h = history + (size_t)r * width;
        real* w = weight + (size_t)r * width;
        FOR_LANES(i, width) {
            h[i] = momentum * h[i] + rate * solver_gradient(d[i], w[i], clip, share, decay, l1);
            d[i] = h[i];
            w[i] -= d[i];
        }
    }
}

KERNEL nesterov_update(ROWS, int width, real clip, real share, real decay, int l1, real rate, real momentum, real* diff,
                       real* history, real* weight) {
    FOR_ROWS(r) {
        real* d = diff + (size_t)r * width;
        real* h = history + (size_t)r * width;
        real* w = weight + (size_t)r * width;
        FOR_LANES(i, width) {
            real before = h[i];
            h[i] = momentum * before + rate * solver_gradient(d[i], w[i], clip, share, decay, l1);
            d[i] = (1 + momentum) * h[i] - momentum * before;
            w[i] -= d[i];
        }
    }
}

// AdaGrad (keep and fresh 1) and RMSProp (fresh 1 - keep)
KERNEL rms_update(ROWS, int width, real clip, real share, real decay, int l1, real rate, real keep, real fresh, real delta,
                  real* diff, real* history, real* weight) {
    FOR_ROWS(r) {
        real* d = diff + (size_t)r * width;
        real* h = history + (size_t)r * width;
        real* w = weight + (size_t)r * width;
        FOR_LANES(i, width) {
            real g = solver_gradient(d[i], w[i], clip, share, decay, l1);
            h[i] = keep * h[i] + fresh * (g * g);
            d[i] = rate * (g / (sqrt_real(h[i]) + delta));
            w[i] -= d[i];
        }
    }
}

KERNEL adadelta_update(ROWS, int width, real clip, real share, real decay, int l1, real rate, real momentum, real delta,
                       real* diff, real* history, real* steps, real* weight) {
    FOR_ROWS(r) {
        real* d = diff + (size_t)r * width;
        real* h = history + (size_t)r * width;
        real* s = steps + (size_t)r * width;
        real* w = weight + (size_t)r * width;
        FOR_LANES(i, width) {
            real g = solver_gradient(d[i], w[i], clip, share, decay, l1);
            h[i] = momentum * h[i] + (1 - momentum) * (g * g);
            real u = g * sqrt_real((s[i] + delta) / (h[i] + delta));
            s[i] = momentum * s[i] + (1 - momentum) * (u * u);
            d[i] = rate * u;
            w[i] -= d[i];
        }
    }
}

// `rate` carries the correction for the averages' start at 0.
KERNEL adam_update(ROWS, int width, real clip, real share, real decay, int l1, real rate, real beta1, real beta2,
                   real delta, real* diff, real* mean, real* square, real* weight) {
    FOR_ROWS(r) {
        real* d = diff + (size_t)r * width;
        real* m = mean + (size_t)r * width;
        real* v = square + (size_t)r * width;
        real* w = weight + (size_t)r * width;
        FOR_LANES(i, width) {
            real g = solver_gradient(d[i], w[i], clip, share, decay, l1);
            m[i] = beta1 * m[i] + (1 - beta1) * g;
            v[i] = beta2 * v[i] + (1 - beta2) * (g * g);
            d[i] = rate * (m[i] / (sqrt_real(v[i]) + delta));
            w[i] -= d[i];
        }
    }
}
