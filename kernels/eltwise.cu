// Elementwise sum with coefficients, product and maximum, and the small array operations the layers share.
#include "rows.cuh"

// y += factor * x
KERNEL add_scaled(ROWS, int width, real factor, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] += factor * a[i];
    }
}

// y = factor * x
KERNEL copy_scaled(ROWS, int width, real factor, const real* in, real* out) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = factor * a[i];
    }
}

// y = f1 * x1 + f2 * x2
KERNEL eltwise_sum(ROWS, int width, real factor1, const real* in1, real factor2, const real* in2, real* out) {
    FOR_ROWS(r) {
        const real* a1 = in1 + (size_t)r * width;
        const real* a2 = in2 + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = factor1 * a1[i] + factor2 * a2[i];
    }
}

// y = x1 * x2
KERNEL eltwise_prod(ROWS, int width, const real* in1, const real* in2, real* out) {
    FOR_ROWS(r) {
        const real* a1 = in1 + (size_t)r * width;
        const real* a2 = in2 + (size_t)r * width;
        real* b = out + (size_t)r * width;
        FOR_LANES(i, width) b[i] = a1[i] * a2[i];
    }
}

// y = y / x * g, the gradient of a product from the product itself (Caffe's stable_prod_grad: false)
KERNEL eltwise_prod_ratio(ROWS, int width, const real* product, const real* in, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        const real* p = product + (size_t)r * width;
        const real* a = in + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = p[i] / a[i] * g[i];
    }
}

// Running maximum of the inputs 0, 1, ..: `winner` is the number of the input it came from. As in Caffe, input 1 wins a tie
// with input 0, and later inputs win none.
KERNEL eltwise_max(ROWS, int width, int number, const real* in, real* out, unsigned char* winner) {
    FOR_ROWS(r) {
        const real* a = in + (size_t)r * width;
        real* b = out + (size_t)r * width;
        unsigned char* w = winner + (size_t)r * width;
        FOR_LANES(i, width) {
            bool better = number > 1 ? a[i] > b[i] : number == 0 || !(b[i] > a[i]);
            b[i] = better ? a[i] : b[i];
            w[i] = better ? (unsigned char)number : w[i];
        }
    }
}

KERNEL eltwise_max_backward(ROWS, int width, int number, const unsigned char* winner, const real* out_diff,
                            real* in_diff) {
    FOR_ROWS(r) {
        const unsigned char* w = winner + (size_t)r * width;
        const real* g = out_diff + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = w[i] == number ? g[i] : 0;
    }
}
