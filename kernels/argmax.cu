// The class of each pixel: the channel that holds the maximum, the first one on ties. One pixel a lane.
#include "rows.cuh"

// Rows (outer, inner row), lanes along the row; `in` is (outer, channels, inner rows, width).
KERNEL argmax_forward(ROWS, int width, int channels, int inner_rows, const real* in, int* out) {
    FOR_ROWS(r) {
        size_t step = (size_t)inner_rows * width;
        size_t from = (size_t)(r / inner_rows) * channels * step + (size_t)(r % inner_rows) * width;
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
