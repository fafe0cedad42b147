// Max and average pooling over windows that may overhang the image (Caffe rounds the output size up).
//
//   max:  y = max over the window's pixels inside the image; the first maximum in row-major order wins
//   ave:  y = sum over the same pixels / size of the window clipped to the padded image
//
// Backward gathers: a pixel adds up what the windows it lies in send it, so no two lanes write one place.
#include "rows.cuh"

// Rows (plane, oy), lanes ox. `winner` may be null; it gets the maximum's place in the unclipped window.
KERNEL max_pool_forward(ROWS, int width, int in_h, int in_w, int out_h, int kernel_h, int kernel_w, int pad_h, int pad_w,
                        int stride_h, int stride_w, int dilation_h, int dilation_w, const real* in, real* out,
                        unsigned short* winner) {
    FOR_ROWS(r) {
        int top = r % out_h * stride_h - pad_h;
        int ky_first = max_int(0, ceil_div(-top, dilation_h));
        int ky_end = min_int(kernel_h, ceil_div(in_h - top, dilation_h));
        const real* plane = in + (size_t)(r / out_h) * in_h * in_w;
        FOR_TILES(t, width) {
            real best[TILE];
            int place[TILE];
            FOR_TILE(i, t, width) {
                best[i] = -FLT_MAX;
                place[i] = 65535;
            }
            for (int ky = ky_first; ky < ky_end; ++ky) {
                for (int kx = 0; kx < kernel_w; ++kx) {
                    int shift = kx * dilation_w - pad_w;
                    const real* a = plane + (size_t)(top + ky * dilation_h) * in_w + shift + (ptrdiff_t)t * stride_w;
                    int here = ky * kernel_w + kx;
                    int lo = ceil_div(-shift, stride_w);
                    int hi = min_int(width, floor_div(in_w - 1 - shift, stride_w) + 1);
                    FOR_TILE_SPAN(i, t, lo, hi) {
                        real v = a[i * stride_w];
                        place[i] = v > best[i] ? here : place[i];
                        best[i] = v > best[i] ? v : best[i];
                    }
                }
            }
            size_t to = (size_t)r * width + t;
            FOR_TILE(i, t, width) out[to + i] = best[i];
            if (winner) {
                FOR_TILE(i, t, width) winner[to + i] = (unsigned short)place[i];
            }
        }
    }
}

// Where each maximum lies in its plane, as y * in_w + x, from its place in the window; -1 where there is none. Rows and
// lanes as above. A row of the window at a time, so that no lane divides.
KERNEL max_pool_mask(ROWS, int width, int in_w, int out_h, int kernel_h, int kernel_w, int pad_h, int pad_w, int stride_h,
                     int stride_w, int dilation_h, int dilation_w, const unsigned short* winner, real* mask) {
    FOR_ROWS(r) {
        int top = r % out_h * stride_h - pad_h;
        const unsigned short* w = winner + (size_t)r * width;
        real* m = mask + (size_t)r * width;
        FOR_LANES(i, width) m[i] = -1;
        for (int ky = 0; ky < kernel_h; ++ky) {
            int first = ky * kernel_w, shift = (top + ky * dilation_h) * in_w - pad_w;
            FOR_LANES(i, width) {
                bool here = w[i] >= first && w[i] < first + kernel_w;
                m[i] = here ? (real)(shift + i * stride_w + (w[i] - first) * dilation_w) : m[i];
            }
        }
    }
}

// Rows (plane, iy, phase of ix modulo the stride), lanes ix / stride: the windows over a lane are then the same
// distances away for the whole row.
KERNEL max_pool_backward(ROWS, int width, int in_h, int in_w, int out_h, int out_w, int kernel_h, int kernel_w, int pad_h,
                         int pad_w, int stride_h, int stride_w, int dilation_h, int dilation_w, const real* out_diff,
                         const unsigned short* winner, real* in_diff) {
    FOR_ROWS(r) {
        int phase = r % stride_w, iy = r / stride_w % in_h, plane = r / stride_w / in_h;
        int lanes = min_int(width, (in_w - phase + stride_w - 1) / stride_w);
        int ky_first = max_int(0, ceil_div(iy + pad_h - (out_h - 1) * stride_h, dilation_h));
        int ky_last = min_int(kernel_h - 1, (iy + pad_h) / dilation_h);
        real* b = in_diff + ((size_t)plane * in_h + iy) * in_w + phase;
        FOR_TILES(t, lanes) {
            real sum[TILE];
            FOR_TILE(i, t, lanes) sum[i] = 0;
            for (int ky = ky_last; ky >= ky_first; --ky) {
                int down = iy + pad_h - ky * dilation_h, oy = down / stride_h;
                if (down % stride_h) continue;
                for (int kx = kernel_w - 1; kx >= 0; --kx) {
                    int right = phase + pad_w - kx * dilation_w, shift = right / stride_w;
                    if (right % stride_w) continue;
                    int here = ky * kernel_w + kx;
                    ptrdiff_t from = ((ptrdiff_t)plane * out_h + oy) * out_w + shift + t;
                    FOR_TILE_SPAN(i, t, -shift, min_int(lanes, out_w - shift))
                        sum[i] += winner[from + i] == here ? out_diff[from + i] : 0;
                }
            }
            FOR_TILE(i, t, lanes) b[(t + i) * stride_w] = sum[i];
        }
    }
}

// Rows (plane, oy), lanes ox.
KERNEL ave_pool_forward(ROWS, int width, int in_h, int in_w, int out_h, int kernel_h, int kernel_w, int pad_h, int pad_w,
                        int stride_h, int stride_w, int dilation_h, int dilation_w, const int* taps_h, const int* taps_w,
                        const real* in, real* out) {
    FOR_ROWS(r) {
        int top = r % out_h * stride_h - pad_h;
        int ky_first = max_int(0, ceil_div(-top, dilation_h));
        int ky_end = min_int(kernel_h, ceil_div(in_h - top, dilation_h));
        const real* plane = in + (size_t)(r / out_h) * in_h * in_w;
        FOR_TILES(t, width) {
            real sum[TILE];
            FOR_TILE(i, t, width) sum[i] = 0;
            for (int ky = ky_first; ky < ky_end; ++ky) {
                for (int kx = 0; kx < kernel_w; ++kx) {
                    int shift = kx * dilation_w - pad_w;
                    const real* a = plane + (size_t)(top + ky * dilation_h) * in_w + shift + (ptrdiff_t)t * stride_w;
                    int lo = ceil_div(-shift, stride_w);
                    int hi = min_int(width, floor_div(in_w - 1 - shift, stride_w) + 1);
                    FOR_TILE_SPAN(i, t, lo, hi) sum[i] += a[i * stride_w];
                }
            }
            FOR_TILE(i, t, width)
                out[(size_t)r * width + t + i] = sum[i] / (real)(taps_h[r % out_h] * taps_w[t + i]);
        }
    }
}

// Rows (plane, iy, phase of ix modulo the stride), lanes ix / stride.
KERNEL ave_pool_backward(ROWS, int width, int in_h, int in_w, int out_h, int out_w, int kernel_h, int kernel_w, int pad_h,
                         int pad_w, int stride_h, int stride_w, int dilation_h, int dilation_w, const int* taps_h,
                         const int* taps_w, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        int phase = r % stride_w, iy = r / stride_w % in_h, plane = r / stride_w / in_h;
        int lanes = min_int(width, (in_w - phase + stride_w - 1) / stride_w);
        int ky_first = max_int(0, ceil_div(iy + pad_h - (out_h - 1) * stride_h, dilation_h));
        int ky_last = min_int(kernel_h - 1, (iy + pad_h) / dilation_h);
        real* b = in_diff + ((size_t)plane * in_h + iy) * in_w + phase;
        FOR_TILES(t, lanes) {
            real sum[TILE];
            FOR_TILE(i, t, lanes) sum[i] = 0;
            for (int ky = ky_last; ky >= ky_first; --ky) {
                int down = iy + pad_h - ky * dilation_h, oy = down / stride_h;
                if (down % stride_h) continue;
                for (int kx = kernel_w - 1; kx >= 0; --kx) {
                    int right = phase + pad_w - kx * dilation_w, shift = right / stride_w;
                    if (right % stride_w) continue;
                    ptrdiff_t from = ((ptrdiff_t)plane * out_h + oy) * out_w + shift + t;
                    FOR_TILE_SPAN(i, t, -shift, min_int(lanes, out_w - shift))
                        sum[i] += out_diff[from + i] / (real)(taps_h[oy] * taps_w[t + i + shift]);
                }
            }
            FOR_TILE(i, t, lanes) b[(t + i) * stride_w] = sum[i];
        }
    }
}
