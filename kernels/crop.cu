// Crop: a window of the bottom, `off` elements in from the start of each axis (four axes; others are folded in).
//
//   forward   out[n][c][h][w] = in[n + off_n][c + off_c][h + off_h][w + off_w]
//   backward  the same window of in_diff gets out_diff, all around it gets 0
#include "rows.cuh"

// Rows (n, c, h) of the window, lanes w.
KERNEL crop_forward(ROWS, int width, int out_c, int out_h, int in_c, int in_h, int in_w, int off_n, int off_c, int off_h,
                    int off_w, const real* in, real* out) {
    FOR_ROWS(r) {
        int h = r % out_h + off_h, c = r / out_h % out_c + off_c, n = r / out_h / out_c + off_n;
        const real* a = in + (((size_t)n * in_c + c) * in_h + h) * in_w + off_w;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i];
    }
}

// Rows (n, c, h) of the whole bottom, lanes w.
KERNEL crop_backward(ROWS, int width, int in_c, int in_h, int out_n, int out_c, int out_h, int out_w, int off_n, int off_c,
                     int off_h, int off_w, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        int h = r % in_h - off_h, c = r / in_h % in_c - off_c, n = r / in_h / in_c - off_n;
        bool inside = h >= 0 && h < out_h && c >= 0 && c < out_c && n >= 0 && n < out_n;
        int lo = inside ? off_w : 0, hi = inside ? off_w + out_w : 0;
        const real* a = out_diff + (((ptrdiff_t)n * out_c + c) * out_h + h) * out_w - off_w;
        real* b = in_diff + (size_t)r * width;
        FOR_SPAN(i, 0, lo) b[i] = 0;
        FOR_SPAN(i, lo, hi) b[i] = a[i];
        FOR_SPAN(i, hi, width) b[i] = 0;
    }
}
