// Winograd's convolution F(4 x 4, 3 x 3) (Lavin and Gray 2016): a tile of 4 x 4 outputs of a 3 x 3 kernel w over a 6 x 6
// window d of the image takes 36 products a channel instead of 144.
//
//   out = A' [sum over channels (G w G') * (B' d B)] A + bias
//
// The 36 places of a transformed tile lie apart: each is a matrix over channels and tiles, and the sums over channels are
// 36 matrix products. Everything is unrolled by macros: a thread of a GPU keeps a tile's numbers in registers.
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

#define FOUR(M) M(0) M(1) M(2) M(3)
#define SIX(M) FOUR(M) M(4) M(5)

// Lanes of a tile that start at t: of those a GPU's thread has one, which is then known to the compiler.
DEVICE int lanes_from(int t, int width) { return TILE == 1 ? 1 : min_int(TILE, width - t); }

// Rows (c, tile row of [tile_y, tile_y + tile_rows)), lanes the tiles along it; out is (36, lines, width).
//
// Down first: column j = 0 .. 3 of each tile, of which the first two are also the last two of the tile before; then along.
KERNEL winograd_tiles(ROWS, int width, int in_h, int in_w, int pad_h, int pad_w, int tile_y, int tile_rows, int lines,
                      const real* in, real* out) {
    size_t step = (size_t)lines * width;
    FOR_ROWS(r) {
        int top = (tile_y + r % tile_rows) * 4 - pad_h;
        const real* plane = in + (size_t)(r / tile_rows) * in_h * in_w;
        real* b = out + (size_t)r * width;
        FOR_TILES(t, width) {
            real down[6][4][TILE + 1];
            int lanes = lanes_from(t, width), left = 4 * t - pad_w;
            int lo = lanes + 1, hi = lanes + 1;  // lanes whose columns lie on the image; the others may read padding
            if (TILE > 1 && top >= 0 && top + 6 <= in_h) {
                lo = min_int(lanes + 1, max_int(0, ceil_div(-left, 4)));
                hi = max_int(lo, min_int(lanes + 1, floor_div(in_w - left, 4)));
            }
#define AT(k, j) \
    (top + k >= 0 && top + k < in_h && left + 4 * i + j >= 0 && left + 4 * i + j < in_w \
         ? plane[(size_t)(top + k) * in_w + left + 4 * i + j] : 0)
#define DOWN(j) \
    tile_line(AT(0, j), AT(1, j), AT(2, j), AT(3, j), AT(4, j), AT(5, j), &down[0][j][i], &down[1][j][i], &down[2][j][i], \
              &down[3][j][i], &down[4][j][i], &down[5][j][i]);
            UNROLLED for (int i = 0; i < lo; ++i) { FOUR(DOWN) }
            for (int i = hi; i < lanes + 1; ++i) { FOUR(DOWN) }
#undef AT
#define AT(k, j) a[k * (size_t)in_w + 4 * i + j]
            const real* a = plane + (ptrdiff_t)top * in_w + left;
            VECTORISE for (int i = lo; i < hi; ++i) { FOUR(DOWN) }
#undef AT
#define ALONG(k) \
    { \
        real v0, v1, v2, v3, v4, v5; \
        tile_line(down[k][0][i], down[k][1][i], down[k][2][i], down[k][3][i], down[k][0][i + 1], down[k][1][i + 1], &v0, &v1, \
                  &v2, &v3, &v4, &v5); \
        *place = v0, place += step, *place = v1, place += step, *place = v2, place += step; \
        *place = v3, place += step, *place = v4, place += step, *place = v5, place += step; \
    }
            VECTORISE for (int i = 0; i < lanes; ++i) { real* place = b + t + i; SIX(ALONG) }
        }
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
        int top = (tile_y + r % tile_rows) * 4, o = r / tile_rows, high = min_int(4, out_h - top);
        const real* b = in + (size_t)r * width;
        real* plane = out + ((size_t)o * out_h + top) * out_w;
        real shift = bias ? bias[o] : 0;
        FOR_TILES(t, width) {
            real sums[4][4][TILE];
            int lanes = lanes_from(t, width), full = TILE == 1 ? 0 : max_int(0, min_int(lanes, out_w / 4 - t));
            VECTORISE for (int i = 0; i < lanes; ++i) {
#define AT(k, j) b[(6 * k + j) * step + t + i]
#define OUT_DOWN(j) \
    real t0##j, t1##j, t2##j, t3##j; \
    out_line(AT(0, j), AT(1, j), AT(2, j), AT(3, j), AT(4, j), AT(5, j), &t0##j, &t1##j, &t2##j, &t3##j);
#define OUT_ALONG(k) \
    out_line(t##k##0, t##k##1, t##k##2, t##k##3, t##k##4, t##k##5, &sums[k][0][i], &sums[k][1][i], &sums[k][2][i], &sums[k][3][i]);
                SIX(OUT_DOWN) FOUR(OUT_ALONG)
#undef AT
            }
#define STORE(j) place[j] = activated(sums[k][j][i] + shift, slope);
#define STORE_INSIDE(j) if (4 * (t + i) + j < out_w) STORE(j)
            UNROLLED for (int k = 0; k < 4; ++k) {
                if (k >= high) break;
                real* row = plane + k * (size_t)out_w + 4 * t;
                VECTORISE for (int i = 0; i < full; ++i) { real* place = row + 4 * i; FOUR(STORE) }
                for (int i = full; i < lanes; ++i) { real* place = row + 4 * i; FOUR(STORE_INSIDE) }
            }
        }
    }
}
