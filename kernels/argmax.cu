// The class of each pixel: the channel that holds the maximum, the first one on ties. One pixel a lane.
#include "rows.cuh"

// Rows (outer, inner row), lanes along the row; `in` is (outer, channels, inner rows, width).
KERNEL argmax_forward(ROWS, int width, int channels, int inner_rows, const real* in, int* out) {
    FOR_ROWS(r) {
        size_t step = (size_t)inner_rows * width;
        size_t from = channel_start(r, channels, inner_rows, width);
        FOR_TILES(t, width) {
            const real* a = in + from + t;
            real best[TILE];
            int place[TILE];
            FOR_TILE(i, t, width) {
                best[i] = a[i];
                place[i] = 0;
            }
            for (int c = 1; c < channels; ++c) {
                FOR_TILE(i, t, width) {
                    real v = a[c * step + i];
                    place[i] = v > best[i] ? c : place[i];
                    best[i] = v > best[i] ? v : best[i];
                }
            }
            FOR_TILE(i, t, width) out[(size_t)r * width + t + i] = place[i];
        }
    }
}

// The `top_k` largest of each pixel's channels, largest first, on ties the later channel first (the order of Caffe's
// ArgMax). `value` and `index` are (outer, top_k, inner rows, width); either may be null.
KERNEL top_k_forward(ROWS, int width, int channels, int inner_rows, int top_k, const real* in, real* value,
                     real* index) {
    FOR_ROWS(r) {
        size_t step = (size_t)inner_rows * width;
        size_t from = channel_start(r, channels, inner_rows, width), out_from = channel_start(r, top_k, inner_rows, width);
        FOR_TILES(t, width) {
            const real* a = in + from + t;
            real last[TILE], best[TILE];
            int last_place[TILE], place[TILE];
            FOR_TILE(i, t, width) last_place[i] = -1;  // nothing taken yet
            for (int k = 0; k < top_k; ++k) {
                FOR_TILE(i, t, width) place[i] = -1;
                for (int c = 0; c < channels; ++c) {
                    FOR_TILE(i, t, width) {
                        real v = a[c * step + i];
                        bool left = last_place[i] < 0 || v < last[i] || (v == last[i] && c < last_place[i]);
                        bool better = left && (place[i] < 0 || v >= best[i]);
                        best[i] = better ? v : best[i];
                        place[i] = better ? c : place[i];
                    }
                }
                size_t to = out_from + k * step + t;
                FOR_TILE(i, t, width) {
                    last[i] = best[i];
                    last_place[i] = place[i];
                    if (value) value[to + i] = best[i];
                    if (index) index[to + i] = (real)place[i];
                }
            }
        }
    }
}
