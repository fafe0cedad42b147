// im2col and col2im over any number of spatial axes (see columns.cu, which does two of them faster).
//
// `geometry` holds six numbers for each axis, the outermost first: image size, output size, kernel, pad, stride, dilation.
// A row of the output, or of the image, is numbered over all axes but the last.
#include "rows.cuh"

#define IMAGE 0
#define OUTPUT 1
#define TAPS 2
#define PAD 3
#define STRIDE 4
#define DILATION 5
#define AXIS 6  // numbers of one axis

// Rows (c, kernel position, output row of the strip), lanes along the last output axis.
KERNEL im2col_nd(ROWS, int width, int axes, int area, int out_row, int out_rows, const int* geometry, const real* image,
                 real* col) {
    const int* last = geometry + (axes - 1) * AXIS;
    FOR_ROWS(r) {
        int k = r / out_rows, tap = k % area, c = k / area, position = out_row + r % out_rows;
        int shift = tap % last[TAPS] * last[DILATION] - last[PAD];
        tap /= last[TAPS];
        bool inside = true;
        size_t from = 0, step = 1;  // the image's row, counted from its innermost axis
        for (int axis = axes - 2; axis >= 0; --axis) {
            const int* g = geometry + axis * AXIS;
            int at = position % g[OUTPUT] * g[STRIDE] + tap % g[TAPS] * g[DILATION] - g[PAD];
            inside = inside && at >= 0 && at < g[IMAGE];
            from += (size_t)max_int(0, at) * step;
            step *= g[IMAGE];
            position /= g[OUTPUT];
            tap /= g[TAPS];
        }
        int lo = 0, hi = 0;  // the lanes that fall on the image; the others read padding
        if (inside) {
            lo = min_int(width, max_int(0, ceil_div(-shift, last[STRIDE])));
            hi = max_int(lo, min_int(width, floor_div(last[IMAGE] - 1 - shift, last[STRIDE]) + 1));
        }
        int stride = last[STRIDE];
        const real* a = image + ((size_t)c * step + (inside ? from : 0)) * last[IMAGE] + shift;
        real* b = col + (size_t)r * width;
        FOR_SPAN(i, 0, lo) b[i] = 0;
        FOR_SPAN(i, lo, hi) b[i] = a[i * stride];
        FOR_SPAN(i, hi, width) b[i] = 0;
    }
}

// Rows (c, image row, phase of the last axis modulo its stride), lanes along it. The first strip writes, the others add.
KERNEL col2im_nd(ROWS, int width, int axes, int area, int out_row, int out_rows, int image_rows, int first,
                 const int* geometry, const real* col, real* image) {
    const int* last = geometry + (axes - 1) * AXIS;
    int stride = last[STRIDE], out_w = last[OUTPUT];
    FOR_ROWS(r) {
        int phase = r % stride, row = r / stride % image_rows, c = r / stride / image_rows;
        int lanes = min_int(width, (last[IMAGE] - phase + stride - 1) / stride);
        real* b = image + ((size_t)c * image_rows + row) * last[IMAGE] + phase;
        FOR_TILES(t, lanes) {
            real sum[TILE];
            FOR_TILE(i, t, lanes) sum[i] = first ? 0 : b[(t + i) * stride];
            for (int tap = 0; tap < area; ++tap) {
                int dx = phase + last[PAD] - tap % last[TAPS] * last[DILATION];
                int shift = floor_div(dx, stride);
                if (shift * stride != dx) continue;
                bool reached = true;
                int left = row, rest = tap / last[TAPS], position = 0, step = 1;
                for (int axis = axes - 2; axis >= 0; --axis) {
                    const int* g = geometry + axis * AXIS;
                    int d = left % g[IMAGE] + g[PAD] - rest % g[TAPS] * g[DILATION];
                    int at = floor_div(d, g[STRIDE]);
                    reached = reached && at * g[STRIDE] == d && at >= 0 && at < g[OUTPUT];
                    position += at * step;
                    step *= g[OUTPUT];
                    left /= g[IMAGE];
                    rest /= g[TAPS];
                }
                if (!reached || position < out_row || position >= out_row + out_rows) continue;
                const real* a = col + (((size_t)c * area + tap) * out_rows + position - out_row) * out_w + shift + t;
                FOR_TILE_SPAN(i, t, -shift, min_int(lanes, out_w - shift)) sum[i] += a[i];
            }
            FOR_TILE(i, t, lanes) b[(t + i) * stride] = sum[i];
        }
    }
}
