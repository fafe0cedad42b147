// Reduction: what is summed up to give a sum of absolute values, and the gradients of the reductions. (The sums
// themselves are matrix products.)
#include "rows.cuh"

// Gradient of factor * sum, * sum of |x|, * sum of x^2 (`operation` 1, 2, 3), all of which have one number a group in
// `out_diff`. Rows (group, inner row), lanes along a row. `in` may be null for operation 1.
KERNEL reduction_backward(ROWS, int width, int inner_rows, int operation, real factor, const real* in,
                          const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        real g = out_diff[r / inner_rows] * factor;
        const real* a = in + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        if (operation == 1) {
            FOR_LANES(i, width) b[i] = g;
        } else if (operation == 2) {
            FOR_LANES(i, width) b[i] = g * (real)((a[i] > 0) - (a[i] < 0));
        } else {
            FOR_LANES(i, width) b[i] = 2 * g * a[i];
        }
    }
}
