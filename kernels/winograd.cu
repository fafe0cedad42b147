// Winograd's convolution F(4 x 4, 3 x 3) (Lavin and Gray 2016): a tile of 4 x 4 outputs of a 3 x 3 kernel w over a 6 x 6
// window d of the image takes 36 products a channel instead of 144.
//
//   out = A' [sum over channels (G w G') * (B' d B)] A + bias
//
// The 36 places of a transformed tile lie apart: each is a matrix over channels and tiles, and the sums over channels are
// 36 matrix products. Everything is unrolled by macros, so that a lane's 36 numbers stay in registers.
#include "rows.cuh"

// B' on six numbers.
DEVICE void tile_line(real a, real b, real c, real d, real e, real f, real* o0, real* o1, real* o2, real* o3, real* o4,
                      real* o5) {
    real even = e - 4 * c, odd = d - 4 * b, near = e - c, far = 2 * (d - b);
    *o0 = 4 * a - 5 * c + e;
    *o1 = even + odd;
    *o2 = even - odd;
    *o3 = near + far;
    *o4 = near - far;
    *o5 = 4 * b - 5 * d + f;
}

// A' on six numbers.
DEVICE void out_line(real a, real b, real c, real d, real e, real f, real* o0, real* o1, real* o2, real* o3) {
    real sum1 = b + c, difference1 = b - c, sum2 = d + e, difference2 = d - e;
    *o0 = a + sum1 + sum2;
    *o1 = difference1 + 2 * difference2;
    *o2 = sum1 + 4 * sum2;
    *o3 = difference1 + 8 * difference2 + f;
}

// G on three numbers.
DEVICE void weight_line(real a, real b, real c, real* o0, real* o1, real* o2, real* o3, real* o4, real* o5) {
    real outer = (a + c) * (real)(-1.0 / 6), middle = b * (real)(1.0 / 6);
    real far = a * (real)(1.0 / 24) + c * (real)(1.0 / 6), half = b * (real)(1.0 / 12);
    *o0 = a * (real)0.25;
    *o1 = outer - middle;
    *o2 = outer + middle;
    *o3 = far + half;
    *o4 = far - half;
    *o5 = c;
}

#define SIX(M) M(0) M(1) M(2) M(3) M(4) M(5)
#define LOAD(k) \
    real d0##k = AT(0, k), d1##k = AT(1, k), d2##k = AT(2, k), d3##k = AT(3, k), d4##k = AT(4, k), d5##k = AT(5, k);
#define DOWN(k) \
    real t0##k, t1##k, t2##k, t3##k, t4##k, t5##k; \
    tile_line(d0##k, d1##k, d2##k, d3##k, d4##k, d5##k, &t0##k, &t1##k, &t2##k, &t3##k, &t4##k, &t5##k);
#define COLUMN(k) LOAD(k) DOWN(k)
#define ALONG(k) \
    { \
        real v0, v1, v2, v3, v4, v5; \
        tile_line(t##k##0, t##k##1, t##k##2, t##k##3, t##k##4, t##k##5, &v0, &v1, &v2, &v3, &v4, &v5); \
        *place = v0, place += step, *place = v1, place += step, *place = v2, place += step; \
        *place = v3, place += step, *place = v4, place += step, *place = v5, place += step; \
    }

// Rows (c, tile row of [tile_y, tile_y + tile_rows)), lanes the tiles along it; out is (36, lines, width).
KERNEL winograd_tiles(ROWS, int width, int in_h, int in_w, int pad_h, int pad_w, int tile_y, int tile_rows, int lines,
                      const real* in, real* out) {
    size_t step = (size_t)lines * width;
    FOR_ROWS(r) {
        int top = (tile_y + r % tile_rows) * 4 - pad_h;
        const real* plane = in + (size_t)(r / tile_rows) * in_h * in_w;
        real* b = out + (size_t)r * width;
        int lo = width, hi = width;  // lanes whose tiles lie on the image; the others read padding
        if (top >= 0 && top + 6 <= in_h) {
            lo = min_int(width, ceil_div(pad_w, 4));
            hi = max_int(lo, min_int(width, floor_div(in_w - 6 + pad_w, 4) + 1));
        }
#define AT(k, j) \
    (top + k >= 0 && top + k < in_h && left + j >= 0 && left + j < in_w ? plane[(size_t)(top + k) * in_w + left + j] : 0)
        ROLLED FOR_SPAN(i, 0, lo) {
            int left = 4 * i - pad_w;
            real* place = b + i; SIX(COLUMN) SIX(ALONG)
        }
        ROLLED FOR_SPAN(i, hi, width) {
            int left = 4 * i - pad_w;
            real* place = b + i; SIX(COLUMN) SIX(ALONG)
        }
#undef AT
#define AT(k, j) a[k * (size_t)in_w + j + 4 * i]
        if (lo < hi) {
            const real* a = plane + (size_t)top * in_w - pad_w;
            ROLLED FOR_SPAN(i, lo, hi) { real* place = b + i; SIX(COLUMN) SIX(ALONG) }
        }
#undef AT
    }
}

// Rows outputs, lanes channels; out is (36, outputs, channels). The kernel's nine numbers lie side by side, those of the
// next output `row_step` further on and those of the next channel `lane_step`; `turned` takes them in reverse order.
KERNEL winograd_weights(ROWS, int width, int outputs, int row_step, int lane_step, int turned, const real* weight, real* out) {
    size_t step = (size_t)outputs * width;
    FOR_ROWS(r) {
        const real* w = weight + (size_t)r * row_step + (turned ? 8 : 0);
        real* b = out + (size_t)r * width;
        int sign = turned ? -1 : 1;
        ROLLED FOR_LANES(i, width) {
            const real* a = w + (size_t)i * lane_step;
#define WEIGHT_DOWN(k) \
    real t0##k, t1##k, t2##k, t3##k, t4##k, t5##k; \
    weight_line(a[sign * k], a[sign * (k + 3)], a[sign * (k + 6)], &t0##k, &t1##k, &t2##k, &t3##k, &t4##k, &t5##k);
#define WEIGHT_ALONG(k) \
    { \
        real v0, v1, v2, v3, v4, v5; \
        weight_line(t##k##0, t##k##1, t##k##2, &v0, &v1, &v2, &v3, &v4, &v5); \
        *place = v0, place += step, *place = v1, place += step, *place = v2, place += step; \
        *place = v3, place += step, *place = v4, place += step, *place = v5, place += step; \
    }
            real* place = b + i; WEIGHT_DOWN(0) WEIGHT_DOWN(1) WEIGHT_DOWN(2) SIX(WEIGHT_ALONG)
        }
    }
}

DEVICE real activated(real value, real slope) { return value > 0 ? value : slope * value; }

// Rows (output, tile row of [tile_y, tile_y + tile_rows)), lanes the tiles along it; in is (36, lines, width). Negative
// results are multiplied with `slope`; `bias` may be null.
KERNEL winograd_out(ROWS, int width, int out_h, int out_w, int tile_y, int tile_rows, int lines, real slope,
                    const real* bias, const real* in, real* out) {
    size_t step = (size_t)lines * width;
    FOR_ROWS(r) {
        int top = (tile_y + r % tile_rows) * 4, o = r / tile_rows, full = out_w / 4;
        const real* b = in + (size_t)r * width;
        real* plane = out + ((size_t)o * out_h + top) * out_w;
        real shift = bias ? bias[o] : 0;
        int high = min_int(4, out_h - top);
#define AT(k, j) b[(6 * k + j) * step + i]
#define OUT_DOWN(k) \
    real t0##k, t1##k, t2##k, t3##k; \
    out_line(d0##k, d1##k, d2##k, d3##k, d4##k, d5##k, &t0##k, &t1##k, &t2##k, &t3##k);
#define OUT_COLUMN(k) LOAD(k) OUT_DOWN(k)
#define OUT_ALONG(k) \
    if (k < high) { \
        real v0, v1, v2, v3; \
        out_line(t##k##0, t##k##1, t##k##2, t##k##3, t##k##4, t##k##5, &v0, &v1, &v2, &v3); \
        real* place = plane + k * (size_t)out_w + 4 * i; \
        STORE \
    }
#define FOUR(M) M(0) M(1) M(2) M(3)
#define STORE \
    place[0] = activated(v0 + shift, slope), place[1] = activated(v1 + shift, slope); \
    place[2] = activated(v2 + shift, slope), place[3] = activated(v3 + shift, slope);
        ROLLED FOR_SPAN(i, 0, min_int(full, width)) { SIX(OUT_COLUMN) FOUR(OUT_ALONG) }
#undef STORE
#define STORE \
    place[0] = activated(v0 + shift, slope); \
    if (4 * i + 1 < out_w) place[1] = activated(v1 + shift, slope); \
    if (4 * i + 2 < out_w) place[2] = activated(v2 + shift, slope);
        ROLLED FOR_SPAN(i, full, width) { SIX(OUT_COLUMN) FOUR(OUT_ALONG) }
    }
}
