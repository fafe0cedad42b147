// Caffe's neuron layers: y = f(x), element by element. A backward kernel reads the layer's input or its output,
// whichever gives the shorter formula; in and out may be the same array.
#include "rows.cuh"

// y = 1 / (1 + exp(-x));  dx = g * y * (1 - y)
KERNEL sigmoid_forward(ROWS, int width, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = sigmoid(a[i]);
    }
}

KERNEL sigmoid_backward(ROWS, int width, const real* out, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        const real* a = out + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = g[i] * a[i] * (1 - a[i]);
    }
}

// dx = g * (1 - y^2)
KERNEL tanh_forward(ROWS, int width, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = tanh_real(a[i]);
    }
}

KERNEL tanh_backward(ROWS, int width, const real* out, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        const real* a = out + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = g[i] * (1 - a[i] * a[i]);
    }
}

// y = |x|;  dx = g * sign(x), 0 at 0
KERNEL absval_forward(ROWS, int width, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] < 0 ? -a[i] : a[i];
    }
}

KERNEL absval_backward(ROWS, int width, const real* in, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = g[i] * (real)((a[i] > 0) - (a[i] < 0));
    }
}

// y = log(1 + exp(x)), with no exponential that can overflow;  dx = g * e / (e + 1), e = exp(min(x, 50))
KERNEL bnll_forward(ROWS, int width, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = (a[i] > 0 ? a[i] : 0) + log1p_real(exp_real(a[i] > 0 ? -a[i] : a[i]));
    }
}

KERNEL bnll_backward(ROWS, int width, const real* in, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) {
            real e = exp_real(a[i] < 50 ? a[i] : (real)50);
            b[i] = g[i] * e / (e + 1);
        }
    }
}

// y = x, or alpha * (exp(x) - 1) where x <= 0
KERNEL elu_forward(ROWS, int width, real alpha, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] > 0 ? a[i] : alpha * (exp_real(a[i]) - 1);
    }
}

KERNEL elu_backward(ROWS, int width, real alpha, const real* in, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] > 0 ? g[i] : g[i] * alpha * exp_real(a[i]);
    }
}

// y = x * s, s = sigmoid(beta * x);  dx = g * (beta * y + s * (1 - beta * y))
KERNEL swish_forward(ROWS, int width, real beta, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] * sigmoid(beta * a[i]);
    }
}

KERNEL swish_backward(ROWS, int width, real beta, const real* in, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) {
            real s = sigmoid(beta * a[i]);
            real scaled = beta * a[i] * s;
            b[i] = g[i] * (scaled + s * (1 - scaled));
        }
    }
}

// y = x within [low, high], which the gradient passes ends included
KERNEL clip_forward(ROWS, int width, real low, real high, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) {
            real v = high < a[i] ? high : a[i];
            b[i] = low < v ? v : low;
        }
    }
}

KERNEL clip_backward(ROWS, int width, real low, real high, const real* in, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] >= low && a[i] <= high ? g[i] : 0;
    }
}

// y = 1 where x > threshold, else 0
KERNEL threshold_forward(ROWS, int width, real threshold, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] > threshold ? 1 : 0;
    }
}

// y = (shift + scale * x)^power. Powers 1 and 2 need no pow, which no compiler vectorises.
KERNEL power_forward(ROWS, int width, real power, real scale, real shift, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        if (power == 1) {
            FOR_LANES(i, width) b[i] = scale * a[i] + shift;
        } else if (power == 2) {
            FOR_LANES(i, width) {
                real u = scale * a[i] + shift;
                b[i] = u * u;
            }
        } else {
            FOR_LANES(i, width) b[i] = pow_real(scale * a[i] + shift, power);
        }
    }
}

// dx = g * power * scale * (shift + scale * x)^(power - 1)
KERNEL power_backward(ROWS, int width, real power, real scale, real shift, const real* in, const real* out_diff,
                      real* in_diff) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        real factor = power * scale;
        if (power == 1) {
            FOR_LANES(i, width) b[i] = g[i] * factor;
        } else if (power == 2) {
            FOR_LANES(i, width) b[i] = g[i] * factor * (scale * a[i] + shift);
        } else {
            FOR_LANES(i, width) b[i] = g[i] * factor * pow_real(scale * a[i] + shift, power - 1);
        }
    }
}

// y = outer * exp(inner * x);  dx = g * inner * y
KERNEL exp_forward(ROWS, int width, real inner, real outer, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = outer * exp_real(inner * a[i]);
    }
}

KERNEL exp_backward(ROWS, int width, real inner, const real* out, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        const real* a = out + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = g[i] * a[i] * inner;
    }
}

// y = outer * log(shift + scale * x);  dx = g * outer * scale / (shift + scale * x)
KERNEL log_forward(ROWS, int width, real outer, real scale, real shift, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = outer * log_real(scale * a[i] + shift);
    }
}

KERNEL log_backward(ROWS, int width, real outer, real scale, real shift, const real* in, const real* out_diff,
                    real* in_diff) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = g[i] * outer * scale / (scale * a[i] + shift);
    }
}
