// Normalisation to mean 0 and variance 1 over groups of values: a channel of the whole batch (BatchNorm), or an image
// or one of its channels (MVN).
//
//   y = (x - mean) / std
//   dx = (g - mean(g) - y * mean(g * y)) / std, or g / std where mean and std are constants
//
// Rows lie in memory as (outer, group, inner row); lanes run along a row.
#include "rows.cuh"

// (x - mean)^2, whose sum over a group is its variance
KERNEL centred_squares(ROWS, int width, int groups, int inner_rows, const real* mean, const real* in, real* out) {
    FOR_ROWS(r) {
        real m = mean[r / inner_rows % groups];
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = (a[i] - m) * (a[i] - m);
    }
}

// `std` may be null: then only the mean is taken away. In place is allowed.
KERNEL normalise_forward(ROWS, int width, int groups, int inner_rows, const real* mean, const real* std, const real* in,
                         real* out) {
    FOR_ROWS(r) {
        int k = r / inner_rows % groups;
        real m = mean[k], s = std ? std[k] : 1;
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = (a[i] - m) / s;
    }
}

// g * y, whose mean over a group the gradient needs
KERNEL normalise_products(ROWS, int width, int groups, int inner_rows, const real* mean, const real* std, const real* in,
                          const real* out_diff, real* out) {
    FOR_ROWS(r) {
        int k = r / inner_rows % groups;
        real m = mean[k], s = std[k];
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = g[i] * ((a[i] - m) / s);
    }
}

// `std`, and with it `mean_gy` and `in`, may be null as above; without `mean_g` mean and std are constants.
KERNEL normalise_backward(ROWS, int width, int groups, int inner_rows, const real* mean, const real* std,
                          const real* mean_g, const real* mean_gy, const real* in, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        int k = r / inner_rows % groups;
        real m = mean[k], s = std ? std[k] : 1;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        if (!mean_g) {
            FOR_LANES(i, width) b[i] = g[i] / s;
        } else if (!std) {
            FOR_LANES(i, width) b[i] = g[i] - mean_g[k];
        } else {
            const real* a = in + (size_t)r * width;
            real shift = mean_g[k], slope = mean_gy[k];
            FOR_LANES(i, width) b[i] = (g[i] - shift - (a[i] - m) / s * slope) / s;
        }
    }
}
