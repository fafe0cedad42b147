// Rows (and columns) of a map that are known to be equal are kept a few times only: `pick_lines` copies rows and columns
// out to where a layer wants them all, or leaves out again those that it had added; `sum_lines` is its adjoint.
//
//   pick_lines   out[c][y][x] = in[c][row[y]][column[x]]
//   sum_lines    out[c][y][x] = sum of in[c][j][i] over row[y] <= j < row[y + 1], column[x] <= i < column[x + 1]
#include "rows.cuh"

// Rows (c, y), lanes x.
KERNEL pick_lines(ROWS, int width, int out_h, int in_h, int in_w, const int* row, const int* column, const real* in,
                  real* out) {
    FOR_ROWS(r) {
        const real* a = in + ((size_t)(r / out_h) * in_h + row[r % out_h]) * in_w;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[column[i]];
    }
}

KERNEL sum_lines(ROWS, int width, int out_h, int in_h, int in_w, const int* row, const int* column, const real* in,
                 real* out) {
    FOR_ROWS(r) {
        int first = row[r % out_h], end = row[r % out_h + 1];
        const real* a = in + (size_t)(r / out_h) * in_h * in_w;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) {
            real sum = 0;
            for (int j = first; j < end; ++j)
                for (int k = column[i]; k < column[i + 1]; ++k) sum += a[(size_t)j * in_w + k];
            b[i] = sum;
        }
    }
}
