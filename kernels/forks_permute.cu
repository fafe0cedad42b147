// Axes in another order (SSD's Permute).
#include "rows.cuh"

// out[i0]...[ik][x] = in at the sum of i_axis * stride[axis]. Rows are all positions but the last axis's, which are the
// lanes; `size` and `stride` have `axes` entries, output axis by axis, strides in the input.
KERNEL permute(ROWS, int width, int axes, const int* size, const int* stride, const real* in, real* out) {
    FOR_ROWS(r) {
        size_t from = 0;
        int rest = r;
        for (int axis = axes - 2; axis >= 0; --axis) {
            from += (size_t)(rest % size[axis]) * stride[axis];
            rest /= size[axis];
        }
        const real* a = in + from;
        size_t step = stride[axes - 1];
        real* b = out + (size_t)r * width;
        FOR_LANES(x, width) b[x] = a[x * step];
    }
}
