// Concat, Slice and Tile: runs of consecutive elements copied from one blob into another.
//
// A blob is `outer` stretches one after the other; a run is the same part of each stretch. Rows (stretch, row of the
// run), lanes along a row of the run.
#include "rows.cuh"

KERNEL copy_run(ROWS, int width, int run_rows, int in_stretch, int in_first, int out_stretch, int out_first,
                const real* in, real* out) {
    FOR_ROWS(r) {
        size_t n = r / run_rows, at = (size_t)(r % run_rows) * width;
        const real* a = in + n * in_stretch + in_first + at;
        real* b = out + n * out_stretch + out_first + at;
        FOR_LANES(i, width) b[i] = a[i];
    }
}

// in_diff = sum of the `tiles` copies that lie one after the other in each stretch of out_diff
KERNEL tile_backward(ROWS, int width, int run_rows, int tiles, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        size_t n = r / run_rows, run = (size_t)run_rows * width;
        const real* g = out_diff + n * tiles * run + (size_t)(r % run_rows) * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = g[i];
        for (int k = 1; k < tiles; ++k) {
            const real* next = g + k * run;
            FOR_LANES(i, width) b[i] += next[i];
        }
    }
}
