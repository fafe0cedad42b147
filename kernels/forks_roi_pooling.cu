// Max pooling of regions of interest to one size (Girshick, Fast R-CNN, 2015). A region is (image, x1, y1, x2, y2).
#include "rows.cuh"

// Rounds half away from zero, as C's round does for numbers that are not negative.
DEVICE int roi_round(real a) { return a >= 0 ? (int)(a + (real)0.5) : -(int)((real)0.5 - a); }
DEVICE int roi_floor(real a) { return (int)a - (a < (int)a ? 1 : 0); }
DEVICE int roi_ceil(real a) { return -roi_floor(-a); }

// First and last pixel + 1, along one axis, of cell p of `cells` of a region from first to last.
DEVICE void roi_cell(int first, int last, int p, int cells, int size, int* begin, int* end) {
    real step = (real)max_int(last - first + 1, 1) / (real)cells;
    *begin = min_int(max_int(roi_floor((real)p * step) + first, 0), size);
    *end = min_int(max_int(roi_ceil((real)(p + 1) * step) + first, 0), size);
}

// Rows (region, channel, oy of out_h), lanes ox. `winner` gets the maximum's place in its plane, -1 in an empty cell, whose
// value is 0. A region of no image gives NaN.
KERNEL roi_pool_forward(ROWS, int width, int images, int channels, int in_h, int in_w, int out_h, real spatial_scale,
                        const real* in, const real* rois, real* out, int* winner) {
    FOR_ROWS(r) {
        const real* roi = rois + (size_t)(r / out_h / channels) * 5;
        bool known = roi[0] >= 0 && roi[0] < images;
        size_t plane = ((size_t)(known ? (int)roi[0] : 0) * channels + r / out_h % channels) * in_h * in_w;
        int top, bottom, x1 = roi_round(roi[1] * spatial_scale), x2 = roi_round(roi[3] * spatial_scale);
        roi_cell(roi_round(roi[2] * spatial_scale), roi_round(roi[4] * spatial_scale), r % out_h, out_h, in_h, &top,
                 &bottom);
        const real* a = in + plane;
        FOR_LANES(i, width) {
            int left, right, place = -1;
            roi_cell(x1, x2, i, width, in_w, &left, &right);
            real best = bottom <= top || right <= left ? 0 : -FLT_MAX;
            for (int y = top; y < bottom; ++y) {
                for (int x = left; x < right; ++x) {
                    bool more = a[(size_t)y * in_w + x] > best;
                    best = more ? a[(size_t)y * in_w + x] : best;
                    place = more ? y * in_w + x : place;
                }
            }
            out[(size_t)r * width + i] = known ? best : not_a_number(roi[0]);
            winner[(size_t)r * width + i] = known ? place : -1;
        }
    }
}

// A pixel adds up what the cells whose maximum it is send it. Rows (image, channel, y of in_h), lanes x.
KERNEL roi_pool_backward(ROWS, int width, int channels, int in_h, int regions, int cells, const real* rois,
                         const int* winner, const real* out_diff, real* in_diff) {
    FOR_ROWS(r) {
        int y = r % in_h, c = r / in_h % channels, n = r / in_h / channels;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = 0;
        for (int k = 0; k < regions; ++k) {
            if ((int)rois[(size_t)k * 5] != n) continue;
            size_t from = ((size_t)k * channels + c) * cells;
            for (int p = 0; p < cells; ++p) {
                int column = winner[from + p] - y * width;
                if (column < 0 || column >= width) continue;
                FOR_LANES(i, width) b[i] += i == column ? out_diff[from + p] : 0;
            }
        }
    }
}
