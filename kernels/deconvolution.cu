// Deconvolution of each channel by itself, as FCNs upsample: the weight joins no two channels.
//
//   out[c][iy * stride - pad + ky][ix * stride - pad + kx] += weight[c][c][ky][kx] * in[c][iy][ix]
//
// The general way multiplies by the zeros between channels, too; the products that are left are added up here in the
// order of col2im, and so to the same bits.
#include "rows.cuh"

// Rows (image, channel, oy, phase of ox modulo the stride), lanes ox / stride, as in col2im. `weight` is (channels,
// channels, kernel_h, kernel_w). A lane divides nothing: the kernel's rows and columns that it meets are a stride apart.
KERNEL deconvolve_planes(ROWS, int width, int channels, int in_h, int in_w, int out_h, int out_w, int kernel_h,
                         int kernel_w, int pad_h, int pad_w, int stride_h, int stride_w, const real* weight,
                         const real* in, real* out) {
    FOR_ROWS(r) {
        int phase = r % stride_w, oy = r / stride_w % out_h, plane = r / stride_w / out_h, c = plane % channels;
        int lanes = min_int(width, (out_w - phase + stride_w - 1) / stride_w);
        int iy_last = (oy + pad_h) / stride_h, ky_first = (oy + pad_h) % stride_h;
        int iy_first = max_int(0, iy_last - floor_div(kernel_h - 1 - ky_first, stride_h));
        int shift_last = (phase + pad_w) / stride_w, kx_first = (phase + pad_w) % stride_w;
        const real* own = weight + (size_t)c * (channels + 1) * kernel_h * kernel_w;
        real* b = out + ((size_t)plane * out_h + oy) * out_w + phase;
        FOR_TILES(t, lanes) {
            real sum[TILE];
            FOR_TILE(i, t, lanes) sum[i] = 0;
            for (int iy = iy_first; iy <= min_int(in_h - 1, iy_last); ++iy) {
                const real* w = own + (ky_first + (iy_last - iy) * stride_h) * kernel_w;
                const real* row = in + ((size_t)plane * in_h + iy) * in_w + t;
                int shift = shift_last;
                for (int kx = kx_first; kx < kernel_w; kx += stride_w, --shift) {
                    const real* a = row + shift;
                    FOR_TILE_SPAN(i, t, -shift, min_int(lanes, in_w - shift)) sum[i] += w[kx] * a[i];
                }
            }
            FOR_TILE(i, t, lanes) b[(t + i) * stride_w] = sum[i];
        }
    }
}
