// Values over their L2 norm (SSD's Normalize): over the channels of a pixel, or over an image.
//
//   out = in / norm * scale[c];  in_diff = (scale[c] * out_diff - in * dot / norm^2) / norm,  dot = sum in * scale * out_diff
//
// Arrays are (outer, channels, inner rows, width); norms and dots (outer, inner rows, width), or one an image.
#include "rows.cuh"

// Sums over the channels of in1 * in2 (* scale[c]), plus `start`. Rows (outer, inner row), lanes along the row.
KERNEL channel_dots(ROWS, int width, int channels, int inner_rows, real start, const real* in1, const real* in2,
                    const real* scale, real* out) {
    FOR_ROWS(r) {
        size_t step = (size_t)inner_rows * width;
        size_t from = channel_start(r, channels, inner_rows, width);
        FOR_TILES(t, width) {
            real sum[TILE];
            FOR_TILE(i, t, width) sum[i] = start;
            for (int c = 0; c < channels; ++c) {
                const real* a = in1 + from + t + c * step;
                const real* b = in2 + from + t + c * step;
                real factor = scale ? scale[c] : 1;
                FOR_TILE(i, t, width) sum[i] += a[i] * b[i] * factor;
            }
            FOR_TILE(i, t, width) out[(size_t)r * width + t + i] = sum[i];
        }
    }
}

// Rows (outer, channel, inner row). `shared`: one norm an image.
KERNEL l2_normalise_forward(ROWS, int width, int channels, int inner_rows, int shared, const real* in, const real* norm,
                            const real* scale, real* out) {
    FOR_ROWS(r) {
        int c = r / inner_rows % channels, n = r / inner_rows / channels;
        real factor = scale ? scale[c] : 1;
        const real* a = in + (size_t)r * width;
        const real* l = shared ? norm + n : norm + ((size_t)n * inner_rows + r % inner_rows) * width;
        int step = shared ? 0 : 1;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] / l[i * step] * factor;
    }
}

KERNEL l2_normalise_backward(ROWS, int width, int channels, int inner_rows, int shared, const real* in, const real* norm,
                             const real* dot, const real* scale, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        int c = r / inner_rows % channels, n = r / inner_rows / channels;
        real factor = scale[c];
        size_t row = shared ? n : ((size_t)n * inner_rows + r % inner_rows) * width;
        int step = shared ? 0 : 1;
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) {
            real length = norm[row + i * step];
            b[i] = (factor * g[i] - a[i] * dot[row + i * step] / (length * length)) / length;
        }
    }
}
