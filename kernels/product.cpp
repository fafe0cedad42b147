// The CPU's matrix product, out = a b or out += a b; on a GPU it is cuBLAS's.
//
// Nothing is rearranged ahead of it. A tile of ROWS x WIDTH sums stays in the registers while a number of `a` at a time
// is multiplied with WIDTH of a row of `b`. DEPTH rows of `b` are gone through for HIGH rows of `a`, so that both are
// found in the second-level cache. How a sum is added up depends on k alone: cutting `out` into parts changes no bit.
#include <stddef.h>
#include <string.h>

typedef REAL real;

// A tile takes 24 of the 32 registers of 64 bytes that AVX-512 has. With AVX2's 16 of 32 bytes tiles are too small for
// this way to gain: there a BLAS takes a tenth less time.
#ifdef __AVX512F__
extern "C" int product_gains() { return 1; }
#else
extern "C" int product_gains() { return 0; }
#endif
enum { BYTES = 64, ROWS = 8, VECTORS = 3 };
enum { LANES = BYTES / sizeof(real), WIDTH = VECTORS * LANES };
enum { DEPTH = 576, HIGH = 192 };
enum { NEAR = 2048 };  // rows of `b` that lie further apart are copied together: each would take a page of its own

typedef real vector __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));

#define UNROLLED _Pragma("GCC unroll 8")

// A matrix whose element (row, column) is at[row * row_step + column * column_step].
struct Matrix {
    const real* at;
    ptrdiff_t row_step, column_step;
    Matrix from(ptrdiff_t row, ptrdiff_t column) const {
        return {at + row * row_step + column * column_step, row_step, column_step};
    }
};

// ROWS x (V vectors) of the product. TURNED says which step of `a` is 1, which the compiler is to know. An address on x86
// holds a multiple by 1, 2, 4 or 8, so three rows of `a` share a pointer.
template <bool TURNED, int V>
static void registers(int depth, Matrix a, Matrix b, real* out, ptrdiff_t out_step, bool add) {
    const ptrdiff_t row = TURNED ? 1 : a.row_step, next = TURNED ? a.column_step : 1;
    const real *a0 = a.at, *a3 = a0 + 3 * row, *a6 = a3 + 3 * row, *line = b.at;
    vector sums[ROWS][V] = {}, lanes[V];
    for (int k = 0; k < depth; ++k, a0 += next, a3 += next, a6 += next, line += b.row_step) {
        UNROLLED for (int v = 0; v < V; ++v) lanes[v] = *(const vector*)(line + v * LANES);
        UNROLLED for (int r = 0; r < ROWS; ++r) {
            real factor = r < 3 ? a0[r * row] : r < 6 ? a3[(r - 3) * row] : a6[(r - 6) * row];
            UNROLLED for (int v = 0; v < V; ++v) sums[r][v] += lanes[v] * factor;
        }
    }
    UNROLLED for (int r = 0; r < ROWS; ++r)
        UNROLLED for (int v = 0; v < V; ++v) {
            vector* to = (vector*)(out + r * out_step + v * LANES);
            *to = add ? *to + sums[r][v] : sums[r][v];
        }
}

static void tile(int vectors, int depth, Matrix a, Matrix b, real* out, ptrdiff_t out_step, bool add) {
    static decltype(&registers<true, 1>) const kinds[2][VECTORS] = {
        {registers<false, 1>, registers<false, 2>, registers<false, 3>},
        {registers<true, 1>, registers<true, 2>, registers<true, 3>},
    };
    kinds[a.column_step != 1][vectors - 1](depth, a, b, out, out_step, add);
}

static int least(int a, int b) { return a < b ? a : b; }

static void copy(int rows, int columns, const real* from, ptrdiff_t from_step, real* to, ptrdiff_t to_step) {
    for (int r = 0; r < rows; ++r) memcpy(to + r * to_step, from + r * from_step, columns * sizeof(real));
}

// The rows of `a` that there are, with zeros for the others.
static Matrix filled(int rows, int depth, Matrix a) {
    static thread_local real held[DEPTH * ROWS];
    for (int k = 0; k < depth; ++k)
        for (int r = 0; r < ROWS; ++r) held[k * ROWS + r] = r < rows ? *a.from(r, k).at : 0;
    return {held, 1, ROWS};
}

// The columns of `b` side by side, with zeros up to WIDTH.
static Matrix filled(int depth, int columns, const real* from, ptrdiff_t from_step) {
    static thread_local real held[DEPTH * WIDTH];
    if (columns < WIDTH) memset(held, 0, sizeof held);
    copy(depth, columns, from, from_step, held, WIDTH);
    return {held, WIDTH, 1};
}

// The sums of `depth` products each for a block of `out`, WIDTH columns or fewer.
static void block(int rows, int columns, int depth, Matrix a, Matrix b, real* out, ptrdiff_t out_step, bool add) {
    int vectors = (columns + LANES - 1) / LANES;
    bool whole = columns == vectors * LANES;
    if (b.row_step > NEAR || !whole) b = filled(depth, columns, b.at, b.row_step);
    for (int r = 0; r < rows; r += ROWS, out += ROWS * out_step, a = a.from(ROWS, 0)) {
        int left = least(ROWS, rows - r);
        if (left == ROWS && whole) {
            tile(vectors, depth, a, b, out, out_step, add);
        } else {
            real sums[ROWS * WIDTH];
            if (add) copy(left, columns, out, out_step, sums, WIDTH);
            tile(vectors, depth, left == ROWS ? a : filled(left, depth, a), b, sums, WIDTH, add);
            copy(left, columns, sums, WIDTH, out, out_step);
        }
    }
}

static void product(int m, int n, int k, const real* a, ptrdiff_t a_row, ptrdiff_t a_column, const real* b,
                    ptrdiff_t b_row, real* out, ptrdiff_t out_row, int accumulate) {
    for (int first = 0; first == 0 || first < k; first += DEPTH)
        for (int top = 0; top < m; top += HIGH)
            for (int left = 0; left < n; left += WIDTH)
                block(least(HIGH, m - top), least(WIDTH, n - left), least(DEPTH, k - first),
                      Matrix{a, a_row, a_column}.from(top, first), Matrix{b, b_row, 1}.from(first, left),
                      out + top * out_row + left, out_row, accumulate || first > 0);
}

// `count` products of one shape, whose matrices lie a_step, b_step and out_step apart. Steps are counted in elements;
// those of `b` and `out` along a row are 1, and one of those of `a` is.
extern "C" void products(int count, int m, int n, int k, const real* a, ptrdiff_t a_step, ptrdiff_t a_row,
                         ptrdiff_t a_column, const real* b, ptrdiff_t b_step, ptrdiff_t b_row, real* out,
                         ptrdiff_t out_step, ptrdiff_t out_row, int accumulate) {
    for (int i = 0; i < count; ++i)
        product(m, n, k, a + i * a_step, a_row, a_column, b + i * b_step, b_row, out + i * out_step, out_row, accumulate);
}
