// Dropout: y = x * kept * scale, with scale = 1 / (1 - ratio); the gradient goes through the same kernel.
#include "rows.cuh"

KERNEL dropout(ROWS, int width, real scale, const unsigned char* kept, const real* in, real* out) {
    FOR_ROWS(r) {
        const unsigned char* k = kept + (size_t)r * width;
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a[i] * (real)k[i] * scale;
    }
}
