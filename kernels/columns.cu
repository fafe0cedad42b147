// Convolution as matrix product: im2col unrolls the windows of an image into the columns of a matrix, col2im adds
// such columns back where they came from (the adjoint).
//
//   col[(c, ky, kx)][(oy, ox)] = image[c][oy * stride + ky * dilation - pad][ox * stride + kx * dilation - pad]
//
// Both work on a strip of output rows [out_y, out_y + out_rows), so the matrix never has to exist as a whole.
#include "rows.cuh"

// Rows (c, ky, kx, oy of the strip), lanes ox.
KERNEL im2col(ROWS, int width, int in_h, int in_w, int kernel_h, int kernel_w, int pad_h, int pad_w, int stride_h,
              int stride_w, int dilation_h, int dilation_w, int out_y, int out_rows, const real* image, real* col) {
    FOR_ROWS(r) {
        int k = r / out_rows, oy = out_y + r % out_rows;
        int kx = k % kernel_w, ky = k / kernel_w % kernel_h, c = k / kernel_w / kernel_h;
        int iy = oy * stride_h + ky * dilation_h - pad_h;
        int shift = kx * dilation_w - pad_w;
        int lo = 0, hi = 0;  // the lanes that fall on the image; the others read padding
        if (iy >= 0 && iy < in_h) {
            lo = min_int(width, max_int(0, ceil_div(-shift, stride_w)));
            hi = max_int(lo, min_int(width, floor_div(in_w - 1 - shift, stride_w) + 1));
        }
        const real* a = image + ((size_t)c * in_h + iy) * in_w + shift;
        real* b = col + (size_t)r * width;
        FOR_SPAN(i, 0, lo) b[i] = 0;
        if (stride_w == 1) {
            FOR_SPAN(i, lo, hi) b[i] = a[i];
        } else {
            FOR_SPAN(i, lo, hi) b[i] = a[i * stride_w];
        }
        FOR_SPAN(i, hi, width) b[i] = 0;
    }
}

// Rows (c, iy of [image_y, image_y + image_rows), phase of ix modulo the stride), lanes ix / stride: all lanes of a
// row then meet the same kernel columns, and no lane divides. Image rows from `fresh_y` on are written, rows before
// it, which an earlier strip reached too, are added to.
KERNEL col2im(ROWS, int width, int in_h, int in_w, int kernel_h, int kernel_w, int pad_h, int pad_w, int stride_h,
              int stride_w, int dilation_h, int dilation_w, int out_y, int out_rows, int out_w, int image_y,
              int image_rows, int fresh_y, const real* col, real* image) {
    FOR_ROWS(r) {
        int phase = r % stride_w, iy = image_y + r / stride_w % image_rows, c = r / stride_w / image_rows;
        int lanes = min_int(width, (in_w - phase + stride_w - 1) / stride_w);
        real* b = image + ((size_t)c * in_h + iy) * in_w + phase;
        FOR_TILES(t, lanes) {
            real sum[TILE];
            FOR_TILE(i, t, lanes) sum[i] = iy < fresh_y ? b[(t + i) * stride_w] : 0;
            for (int ky = kernel_h - 1; ky >= 0; --ky) {  // up the output rows, so that strips do not show in the bits
                int dy = iy + pad_h - ky * dilation_h;
                int oy = floor_div(dy, stride_h);
                if (oy * stride_h != dy || oy < out_y || oy >= out_y + out_rows) continue;
                for (int kx = 0; kx < kernel_w; ++kx) {
                    int dx = phase + pad_w - kx * dilation_w;
                    int shift = floor_div(dx, stride_w);
                    if (shift * stride_w != dx) continue;
                    const real* a = col + (((size_t)(c * kernel_h + ky) * kernel_w + kx) * out_rows + oy - out_y) * out_w;
                    a += shift + t;
                    FOR_TILE_SPAN(i, t, -shift, min_int(lanes, out_w - shift)) sum[i] += a[i];
                }
            }
            FOR_TILE(i, t, lanes) b[(t + i) * stride_w] = sum[i];
        }
    }
}
