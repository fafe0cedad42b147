// Whole rows of an array picked by index, and the gradients sent back to them: Embed, BatchReindex and Filter.
#include "rows.cuh"

// out[m] = in[index[m]]. Rows (m, inner row), lanes along an inner row; an index out of [0, items) gives NaN.
KERNEL gather_forward(ROWS, int width, int inner_rows, int items, const real* index, const real* in, real* out) {
    FOR_ROWS(r) {
        int k = (int)index[r / inner_rows];
        real* b = out + (size_t)r * width;
        if (k >= 0 && k < items) {
            const real* a = in + ((size_t)k * inner_rows + r % inner_rows) * width;
            FOR_LANES(i, width) b[i] = a[i];
        } else {
            FOR_LANES(i, width) b[i] = not_a_number(index[r / inner_rows]);
        }
    }
}

// in_diff[k] = sum of out_diff[m] over the `picks` numbers m with index[m] = k, or that added to it. Rows (k, inner row).
KERNEL gather_backward(ROWS, int width, int inner_rows, int picks, int accumulate, const real* index,
                       const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        real* b = in_diff + (size_t)r * width;
        if (!accumulate) {
            FOR_LANES(i, width) b[i] = 0;
        }
        for (int m = 0; m < picks; ++m) {
            if ((int)index[m] != r / inner_rows) continue;
            const real* g = out_diff + ((size_t)m * inner_rows + r % inner_rows) * width;
            FOR_LANES(i, width) b[i] += g[i];
        }
    }
}
