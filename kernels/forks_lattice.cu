// Gaussian filtering over a permutohedral lattice (Adams, Baek and Davis 2010): values are spread to the corners of the
// simplices they lie in, blurred along each of the lattice's axes, and read back. The lattice is made on the host; here
// are only gathers.
#include "rows.cuh"

// out[point] = sum over [begin[point], begin[point + 1]) of weight * in[source]. Rows are channels, lanes points; a row of
// `in` has `in_width` values.
KERNEL lattice_splat(ROWS, int width, int in_width, const int* begin, const int* source, const real* weight,
                     const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * in_width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) {
            real sum = 0;
            for (int k = begin[i]; k < begin[i + 1]; ++k) sum += weight[k] * a[source[k]];
            b[i] = sum;
        }
    }
}

// out[point] = in[point] + (in[one neighbour] + in[the other]) / 2; a neighbour that is not there is -1.
KERNEL lattice_blur(ROWS, int width, const int* before, const int* after, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) {
            int p = before[i], q = after[i];
            real left = a[max_int(p, 0)], right = a[max_int(q, 0)];
            b[i] = a[i] + ((p < 0 ? 0 : left) + (q < 0 ? 0 : right)) / 2;
        }
    }
}

// out[pixel] = factor[pixel] * sum over its `corners` of weight * in[point]; both tables are (corners, width). Rows are
// channels, lanes pixels; a row of `in` has `in_width` points.
KERNEL lattice_slice(ROWS, int width, int in_width, int corners, const int* point, const real* weight,
                     const real* factor, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * in_width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) {
            real sum = 0;
            for (int k = 0; k < corners; ++k) sum += weight[(size_t)k * width + i] * a[point[(size_t)k * width + i]];
            b[i] = factor[i] * sum;
        }
    }
}
