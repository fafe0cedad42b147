// Softmax over channels and its multinomial logistic loss, one pixel a lane.
//
//   p[c] = exp(x[c] - m) / sum_k exp(x[k] - m),  m = max_k x[k]
//   loss = -log(max(p[label], FLT_MIN)), 0 where the label is ignored;  gradient (p - onehot) * weight / normaliser
//
// The loss keeps no probabilities: backward makes them again from the scores, which is cheaper than storing them.
// Arrays are (outer, channels, inner rows, width).
#include "rows.cuh"

// The tile's maxima and sums of exp(x - maximum) over the channels, which lie `step` apart.
#define SOFTMAX_OF_TILE(peak, sum, a, t, width, channels, step) \
    real peak[TILE], sum[TILE]; \
    FOR_TILE(i, t, width) peak[i] = a[i]; \
    for (int c = 1; c < channels; ++c) { \
        FOR_TILE(i, t, width) peak[i] = a[c * step + i] > peak[i] ? a[c * step + i] : peak[i]; \
    } \
    FOR_TILE(i, t, width) sum[i] = 0; \
    for (int c = 0; c < channels; ++c) { \
        FOR_TILE(i, t, width) sum[i] += exp_real(a[c * step + i] - peak[i]); \
    }

// Rows (o, inner row), lanes along the row.
KERNEL softmax_forward(ROWS, int width, int channels, int inner_rows, const real* in, real* out) {
    FOR_ROWS(r) {
        size_t step = (size_t)inner_rows * width;
        size_t from = channel_start(r, channels, inner_rows, width);
        FOR_TILES(t, width) {
            const real* a = in + from + t;
            real* b = out + from + t;
            SOFTMAX_OF_TILE(peak, sum, a, t, width, channels, step)
            for (int c = 0; c < channels; ++c) {
                FOR_TILE(i, t, width) b[c * step + i] = exp_real(a[c * step + i] - peak[i]) / sum[i];
            }
        }
    }
}

// in_diff[c] = (out_diff[c] - sum_k out_diff[k] * out[k]) * out[c]
KERNEL softmax_backward(ROWS, int width, int channels, int inner_rows, const real* out, const real* out_diff,
                        real* in_diff) {
    FOR_ROWS(r) {
        size_t step = (size_t)inner_rows * width;
        size_t from = channel_start(r, channels, inner_rows, width);
        FOR_TILES(t, width) {
            const real* a = out + from + t;
            const real* g = out_diff + from + t;
            real* b = in_diff + from + t;
            real dot[TILE];
            FOR_TILE(i, t, width) dot[i] = 0;
            for (int c = 0; c < channels; ++c) {
                FOR_TILE(i, t, width) dot[i] += g[c * step + i] * a[c * step + i];
            }
            for (int c = 0; c < channels; ++c) {
                FOR_TILE(i, t, width) b[c * step + i] = (g[c * step + i] - dot[i]) * a[c * step + i];
            }
        }
    }
}

// `loss` and `valid` are (outer, inner rows, width): each pixel's loss, and 1 where the pixel counts. A label that is
// neither a channel nor ignored gives NaN. `class_weight` may be null; else a pixel's loss is times its label's weight.
KERNEL softmax_loss_forward(ROWS, int width, int channels, int inner_rows, int ignore_label, const real* class_weight,
                            const real* in, const real* label, real* loss, real* valid) {
    FOR_ROWS(r) {
        size_t step = (size_t)inner_rows * width;
        size_t from = channel_start(r, channels, inner_rows, width);
        size_t to = (size_t)r * width;
        FOR_TILES(t, width) {
            const real* a = in + from + t;
            SOFTMAX_OF_TILE(peak, sum, a, t, width, channels, step)
            FOR_TILE(i, t, width) {
                int k = (int)label[to + t + i];
                bool counts = k != ignore_label, known = k >= 0 && k < channels;
                real p = exp_real(a[known ? k * step + i : i] - peak[i]) / sum[i];
                real value = known ? -log_real(p < FLT_MIN ? (real)FLT_MIN : p) : not_a_number(sum[i]);
                if (class_weight) value *= class_weight[known ? k : 0];
                loss[to + t + i] = counts ? value : 0;
                valid[to + t + i] = counts ? 1 : 0;
            }
        }
    }
}

// `weight` and `normaliser` hold one number each, so that the loss never has to leave the device.
KERNEL softmax_loss_backward(ROWS, int width, int channels, int inner_rows, int ignore_label, const real* class_weight,
                             const real* weight, const real* normaliser, const real* in, const real* label,
                             real* in_diff) {
    FOR_ROWS(r) {
        size_t step = (size_t)inner_rows * width;
        size_t from = channel_start(r, channels, inner_rows, width);
        real scale = weight[0] / normaliser[0];
        FOR_TILES(t, width) {
            const real* a = in + from + t;
            const real* l = label + (size_t)r * width + t;
            real* b = in_diff + from + t;
            SOFTMAX_OF_TILE(peak, sum, a, t, width, channels, step)
            real factor[TILE];
            FOR_TILE(i, t, width) {
                int k = (int)l[i];
                factor[i] = class_weight ? scale * class_weight[k >= 0 && k < channels ? k : 0] : scale;
            }
            for (int c = 0; c < channels; ++c) {
                FOR_TILE(i, t, width) {
                    int k = (int)l[i];
                    real p = exp_real(a[c * step + i] - peak[i]) / sum[i];
                    b[c * step + i] = k == ignore_label ? 0 : (p - (k == c ? 1 : 0)) * factor[i];
                }
            }
        }
    }
}

// Infogain loss: -sum_c gain[label][c] * log(max(p[c], 1e-20)); `gain` is (channels, channels), the rest as above.
KERNEL infogain_loss_forward(ROWS, int width, int channels, int inner_rows, int ignore_label, const real* gain,
                             const real* in, const real* label, real* loss, real* valid) {
    FOR_ROWS(r) {
        size_t step = (size_t)inner_rows * width;
        size_t from = channel_start(r, channels, inner_rows, width);
        size_t to = (size_t)r * width;
        FOR_TILES(t, width) {
            const real* a = in + from + t;
            real value[TILE];
            SOFTMAX_OF_TILE(peak, sum, a, t, width, channels, step)
            FOR_TILE(i, t, width) value[i] = 0;
            for (int c = 0; c < channels; ++c) {
                FOR_TILE(i, t, width) {
                    int k = (int)label[to + t + i];
                    real p = exp_real(a[c * step + i] - peak[i]) / sum[i];
                    real weight = k >= 0 && k < channels ? gain[k * channels + c] : 0;
                    value[i] -= weight * log_real(p < (real)1e-20 ? (real)1e-20 : p);
                }
            }
            FOR_TILE(i, t, width) {
                int k = (int)label[to + t + i];
                bool counts = k != ignore_label, known = k >= 0 && k < channels;
                loss[to + t + i] = !counts ? 0 : known ? value[i] : not_a_number(sum[i]);
                valid[to + t + i] = counts ? 1 : 0;
            }
        }
    }
}

// in_diff[c] = (p[c] * sum_k gain[label][k] - gain[label][c]) * weight / normaliser; `gain_sums` are those sums.
KERNEL infogain_loss_backward(ROWS, int width, int channels, int inner_rows, int ignore_label, const real* gain,
                              const real* gain_sums, const real* weight, const real* normaliser, const real* in,
                              const real* label, real* in_diff) {
    FOR_ROWS(r) {
        size_t step = (size_t)inner_rows * width;
        size_t from = channel_start(r, channels, inner_rows, width);
        real scale = weight[0] / normaliser[0];
        FOR_TILES(t, width) {
            const real* a = in + from + t;
            const real* l = label + (size_t)r * width + t;
            real* b = in_diff + from + t;
            SOFTMAX_OF_TILE(peak, sum, a, t, width, channels, step)
            for (int c = 0; c < channels; ++c) {
                FOR_TILE(i, t, width) {
                    int k = (int)l[i];
                    bool known = k != ignore_label && k >= 0 && k < channels;
                    real p = exp_real(a[c * step + i] - peak[i]) / sum[i];
                    b[c * step + i] = known ? (p * gain_sums[k] - gain[k * channels + c]) * scale : 0;
                }
            }
        }
    }
}
