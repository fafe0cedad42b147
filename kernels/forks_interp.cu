// Bilinear interpolation between corner-aligned grids (DeepLab's Interp). Each output position of an axis reads inputs
// `low` and `high` with weights 1 - part and part.
//
//   out[y][x] = sum over the two rows and two columns of weight_y * weight_x * in[row][column]
#include "rows.cuh"

// Rows (plane, oy of out_h), lanes ox.
KERNEL interp_forward(ROWS, int width, int in_h, int in_w, int out_h, const int* low_y, const int* high_y,
                      const real* part_y, const int* low_x, const int* high_x, const real* part_x, const real* in,
                      real* out) {
    FOR_ROWS(r) {
        int y = r % out_h;
        const real* plane = in + (size_t)(r / out_h) * in_h * in_w;
        const real* a = plane + (size_t)low_y[y] * in_w;
        const real* b = plane + (size_t)high_y[y] * in_w;
        real down = part_y[y], up = 1 - part_y[y];
        real* to = out + (size_t)r * width;
        FOR_LANES(x, width) {
            real right = part_x[x], left = 1 - part_x[x];
            to[x] = up * (left * a[low_x[x]] + right * a[high_x[x]]) + down * (left * b[low_x[x]] + right * b[high_x[x]]);
        }
    }
}

// The adjoint. The outputs that read input y are among [begin_y[y], end_y[y]), and likewise for x. Rows (plane, y of in_h),
// lanes x.
KERNEL interp_backward(ROWS, int width, int in_h, int out_h, int out_w, const int* begin_y, const int* end_y,
                       const int* low_y, const int* high_y, const real* part_y, const int* begin_x, const int* end_x,
                       const int* low_x, const int* high_x, const real* part_x, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        int y = r % in_h;
        const real* plane = out_diff + (size_t)(r / in_h) * out_h * out_w;
        real* to = in_diff + (size_t)r * width;
        FOR_LANES(x, width) {
            real sum = 0;
            for (int v = begin_y[y]; v < end_y[y]; ++v) {
                const real* g = plane + (size_t)v * out_w;
                real weight = (low_y[v] == y ? 1 - part_y[v] : 0) + (high_y[v] == y ? part_y[v] : 0), line = 0;
                for (int u = begin_x[x]; u < end_x[x]; ++u) {
                    line += ((low_x[u] == x ? 1 - part_x[u] : 0) + (high_x[u] == x ? part_x[u] : 0)) * g[u];
                }
                sum += weight * line;
            }
            to[x] = sum;
        }
    }
}
