// SegNet's Upsample: each value goes back to where max pooling took it from, `mask` holding y * out_w + x; all else is 0.
//
//   out[mask[i]] = in[i];  in_diff[i] = out_diff[mask[i]]
//
// Windows may share a maximum: then the last one's value stands, as in SegNet, and so a plane is one lane's work.
#include "rows.cuh"

// Rows are planes of `size` values in and `out_size` out, each of one lane. A place outside the plane makes its first
// value NaN.
KERNEL upsample_forward(ROWS, int width, int size, int out_size, const real* in, const real* mask, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * size;
        const real* m = mask + (size_t)r * size;
        real* b = out + (size_t)r * out_size;
        FOR_LANES(lane, width) {
            for (int i = 0; i < out_size; ++i) b[i] = 0;
            for (int i = 0; i < size; ++i) {
                bool inside = m[i] >= 0 && m[i] < out_size;
                b[inside ? (int)m[i] : 0] = inside ? a[i] : not_a_number(m[i]);
            }
        }
    }
}

// Rows are planes, lanes their values.
KERNEL upsample_backward(ROWS, int width, int out_size, const real* out_diff, const real* mask, real* in_diff) {
    FOR_ROWS(r) {
        const real* g = out_diff + (size_t)r * out_size;
        const real* m = mask + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) {
            bool inside = m[i] >= 0 && m[i] < out_size;
            real value = g[inside ? (int)m[i] : 0];
            b[i] = inside ? value : not_a_number(m[i]);
        }
    }
}
