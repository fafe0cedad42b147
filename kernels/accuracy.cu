// Accuracy: whether a pixel's true class is among its `top_k` best scores. The class itself counts among those at
// least as good, so that a tie counts against it.
#include "rows.cuh"

// Rows (outer, inner row), lanes along the row; `in` is (outer, channels, inner rows, width). `hit` gets 1 or 0, `valid`
// whether the pixel counts at all; a label that is no channel is a miss.
KERNEL accuracy_forward(ROWS, int width, int channels, int inner_rows, int top_k, int ignore_label, const real* in,
                        const real* label, real* hit, real* valid) {
    FOR_ROWS(r) {
        size_t step = (size_t)inner_rows * width;
        size_t from = channel_start(r, channels, inner_rows, width);
        FOR_TILES(t, width) {
            const real* a = in + from + t;
            const real* l = label + (size_t)r * width + t;
            size_t to = (size_t)r * width + t;
            real own[TILE];
            int better[TILE];
            FOR_TILE(i, t, width) {
                int k = (int)l[i];
                own[i] = a[k >= 0 && k < channels ? k * step + i : i];
                better[i] = -1;
            }
            for (int c = 0; c < channels; ++c) {
                FOR_TILE(i, t, width) better[i] += a[c * step + i] >= own[i] ? 1 : 0;
            }
            FOR_TILE(i, t, width) {
                int k = (int)l[i];
                bool counts = k != ignore_label, known = k >= 0 && k < channels;
                hit[to + i] = counts && known && better[i] < top_k ? 1 : 0;
                valid[to + i] = counts ? 1 : 0;
            }
        }
    }
}
