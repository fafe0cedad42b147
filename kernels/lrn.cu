// Local response normalisation (Krizhevsky et al. 2012): every value is damped by the energy around it.
//
//   s = k + factor * sum of x^2 over a window around the value;  y = x * s^-beta
//   dx = g * s^-beta - 2 * factor * beta * x * sum over the same window of g * y / s
//
// The window reaches `reach_c` channels either way (across channels) or `reach` rows and columns (within a channel)
// and is clipped to the blob: what lies outside counts as 0. One kernel serves both regions, as either reach may be 0.
#include "rows.cuh"

// s^-beta. The models' beta of 0.75 goes through square roots, which vectorise; pow does not.
DEVICE real lrn_damping(real s, real beta) {
    return beta == (real)0.75 ? 1 / (sqrt_real(s) * sqrt_real(sqrt_real(s))) : pow_real(s, -beta);
}

// Rows (n, c, y), lanes along the row. `scale` gets s, `out` gets y; either may be null.
KERNEL lrn_forward(ROWS, int width, int channels, int height, int reach_c, int reach, real k, real factor, real beta,
                   const real* in, real* scale, real* out) {
    FOR_ROWS(r) {
        int y = r % height, c = r / height % channels;
        size_t row = (size_t)r * width;
        const real* a = in + row;
        FOR_TILES(t, width) {
            real sum[TILE];
            FOR_TILE(i, t, width) sum[i] = 0;
            for (int dc = max_int(-reach_c, -c); dc <= min_int(reach_c, channels - 1 - c); ++dc) {
                for (int dy = max_int(-reach, -y); dy <= min_int(reach, height - 1 - y); ++dy) {
                    for (int dx = -reach; dx <= reach; ++dx) {
                        ptrdiff_t from = ((ptrdiff_t)dc * height + dy) * width + dx + t;
                        FOR_TILE_SPAN(i, t, -dx, width - max_int(dx, 0)) sum[i] += a[from + i] * a[from + i];
                    }
                }
            }
            FOR_TILE(i, t, width) sum[i] = k + factor * sum[i];
            if (scale) {
                FOR_TILE(i, t, width) scale[row + t + i] = sum[i];
            }
            if (out) {
                FOR_TILE(i, t, width) out[row + t + i] = a[t + i] * lrn_damping(sum[i], beta);
            }
        }
    }
}

KERNEL lrn_backward(ROWS, int width, int channels, int height, int reach_c, int reach, real factor, real beta,
                    const real* in, const real* scale, const real* out, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        int y = r % height, c = r / height % channels;
        size_t row = (size_t)r * width;
        const real* s = scale + row;
        const real* o = out + row;
        const real* g = out_diff + row;
        FOR_TILES(t, width) {
            real sum[TILE];
            FOR_TILE(i, t, width) sum[i] = 0;
            for (int dc = max_int(-reach_c, -c); dc <= min_int(reach_c, channels - 1 - c); ++dc) {
                for (int dy = max_int(-reach, -y); dy <= min_int(reach, height - 1 - y); ++dy) {
                    for (int dx = -reach; dx <= reach; ++dx) {
                        ptrdiff_t from = ((ptrdiff_t)dc * height + dy) * width + dx + t;
                        FOR_TILE_SPAN(i, t, -dx, width - max_int(dx, 0)) sum[i] += g[from + i] * o[from + i] / s[from + i];
                    }
                }
            }
            FOR_TILE(i, t, width) {
                real damped = g[t + i] * lrn_damping(s[t + i], beta);
                in_diff[row + t + i] = damped - 2 * factor * beta * in[row + t + i] * sum[i];
            }
        }
    }
}
