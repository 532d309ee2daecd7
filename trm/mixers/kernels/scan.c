/* The selective scan of trm/mixers/kernels/scan.py and its gradients, each in one pass over a tile of channels.
 *
 * Names and layouts are those of the Python file; all arrays are float32 and contiguous:
 *
 *     x, dt, y, dy, dx, ddt   (rows, length, channels)
 *     A, D                    (states, channels), (channels)
 *     B, C                    (rows, length, states)
 *     checkpoints             (segments, rows, states, channels): the states before steps 0, every, 2 every, ...
 *     dA, dD                  (rows, states, channels), (rows, channels): the caller sums over the rows
 *     dB, dC                  (rows, length, states): the caller fills them with zeros
 *
 * dt >= 0 and A <= 0, as the exponential requires. In the forward pass a tile's states stay in the first-level cache
 * for the whole sequence; in the backward pass those of a segment stay in the second-level cache.
 *
 * TILE is a compile-time constant, so that the compiler vectorises the loops over it; the last tile of a row is padded
 * with zeros. Rows are distributed over threads; the result of a row does not depend on the number of threads.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TILE 32

typedef float tile[TILE];

/* exp(x) for x <= 0 to two units in the last place; 0 below 1e-38, NaN for NaN.
 *
 * exp(x) = 2^n exp(r) with |r| <= log(2) / 2, and a polynomial for exp(r) (Moshier, Cephes, expf). Written out, because
 * the compiler does not vectorise calls to the library's expf. */
static inline float exp_of_negative(float argument)
{
    float x = argument < -87.0f ? -87.0f : argument;
    float shifted = x * 1.44269504088896341f + 12582912.0f; /* 1.5 * 2^23: rounds to the nearest integer */
    float n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union { float value; uint32_t bits; } power = {.value = shifted};
    power.bits = (power.bits - 0x4B400000 + 127) << 23;
    return argument < -87.0f ? 0.0f : p * power.value;
}

static inline int64_t width_of_tile(int64_t first, int64_t channels)
{
    return channels - first < TILE ? channels - first : TILE;
}

static inline void load(tile to, const float *from, int64_t width)
{
    if (width == TILE) { /* the size is a constant: two or four moves instead of a call */
        memcpy(to, from, sizeof(tile));
        return;
    }
    memset(to, 0, sizeof(tile));
    memcpy(to, from, (size_t)width * sizeof(float));
}

static inline void store(float *to, const tile from, int64_t width)
{
    if (width == TILE)
        memcpy(to, from, sizeof(tile));
    else
        memcpy(to, from, (size_t)width * sizeof(float));
}

/* Load the same tile of `count` consecutive arrays, such as those of the states. */
static inline void load_each(tile *to, const float *from, int64_t count, int64_t channels, int64_t width)
{
    for (int64_t n = 0; n < count; n++)
        load(to[n], from + n * channels, width);
}

static inline void store_each(float *to, const tile *from, int64_t count, int64_t channels, int64_t width)
{
    for (int64_t n = 0; n < count; n++)
        store(to + n * channels, from[n], width);
}

/* Index of the token at step t of a row's scan; with `reverse` the scan runs from the last token to the first. */
static inline int64_t token_of(int64_t row, int64_t t, int64_t length, int64_t reverse)
{
    return row * length + (reverse ? length - 1 - t : t);
}

/* Without checkpoints if `every` is 0. Returns 0, or 1 if memory could not be allocated. */
int selective_scan(int64_t rows, int64_t length, int64_t channels, int64_t states, int64_t every, int64_t reverse,
                   int64_t threads, const float *x, const float *dt, const float *A, const float *B, const float *C,
                   const float *D, float *y, float *checkpoints)
{
    int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        tile *of_A = malloc(2 * (size_t)states * sizeof(tile)), *state = of_A + states;
        if (!of_A) {
#pragma omp atomic write
            failed = 1;
            continue;
        }
        for (int64_t first = 0; first < channels; first += TILE) {
            int64_t width = width_of_tile(first, channels);
            load_each(of_A, A + first, states, channels, width);
            tile of_D;
            load(of_D, D + first, width);
            memset(state, 0, (size_t)states * sizeof(tile));
            for (int64_t t = 0; t < length; t++) {
                int64_t token = token_of(row, t, length, reverse), at = token * channels + first;
                if (every && t % every == 0)
                    store_each(checkpoints + (t / every * rows + row) * states * channels + first, state, states,
                               channels, width);
                tile of_x, of_dt, sum;
                load(of_x, x + at, width);
                load(of_dt, dt + at, width);
                for (int e = 0; e < TILE; e++)
                    sum[e] = of_D[e] * of_x[e];
                for (int64_t n = 0; n < states; n++) {
                    float b = B[token * states + n], c = C[token * states + n];
                    for (int e = 0; e < TILE; e++) {
                        float h = exp_of_negative(of_dt[e] * of_A[n][e]) * state[n][e] + of_dt[e] * of_x[e] * b;
                        state[n][e] = h;
                        sum[e] += c * h;
                    }
                }
                store(y + at, sum, width);
            }
        }
        free(of_A);
    }
    return failed;
}

/* Backpropagation through time, one segment between two checkpoints after the other:
 * dh_t = C_t dy_t + exp(dt_{t+1} A) dh_{t+1}. Returns 0, or 1 if memory could not be allocated. */
int selective_scan_gradients(int64_t rows, int64_t length, int64_t channels, int64_t states, int64_t every,
                             int64_t reverse, int64_t threads, const float *x, const float *dt, const float *A,
                             const float *B, const float *C, const float *D, const float *dy,
                             const float *checkpoints, float *dx, float *ddt, float *dA, float *dB, float *dC,
                             float *dD)
{
    int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        size_t size = (size_t)states * sizeof(tile);
        tile *of_A = malloc((size_t)(2 * every + 4) * size), *of_dA = of_A + states, *dh = of_dA + states;
        tile *history = dh + states, *decays = history + (every + 1) * states; /* [step][state] */
        if (!of_A) {
#pragma omp atomic write
            failed = 1;
            continue;
        }
        for (int64_t first = 0; first < channels; first += TILE) {
            int64_t width = width_of_tile(first, channels);
            load_each(of_A, A + first, states, channels, width);
            memset(of_dA, 0, 2 * size);
            tile of_D, of_dD = {0};
            load(of_D, D + first, width);
            for (int64_t segment = (length - 1) / every; segment >= 0; segment--) {
                int64_t start = segment * every, stop = start + every < length ? start + every : length;
                load_each(history, checkpoints + (segment * rows + row) * states * channels + first, states, channels,
                          width);
                for (int64_t t = start; t < stop; t++) {
                    int64_t token = token_of(row, t, length, reverse), at = token * channels + first, i = t - start;
                    tile of_x, of_dt;
                    load(of_x, x + at, width);
                    load(of_dt, dt + at, width);
                    for (int64_t n = 0; n < states; n++) {
                        float b = B[token * states + n];
                        for (int e = 0; e < TILE; e++) {
                            float decay = exp_of_negative(of_dt[e] * of_A[n][e]);
                            decays[i * states + n][e] = decay;
                            history[(i + 1) * states + n][e] =
                                decay * history[i * states + n][e] + of_dt[e] * of_x[e] * b;
                        }
                    }
                }
                for (int64_t t = stop - 1; t >= start; t--) {
                    int64_t token = token_of(row, t, length, reverse), at = token * channels + first, i = t - start;
                    tile of_x, of_dt, of_dy, du = {0}, of_ddt = {0};
                    load(of_x, x + at, width);
                    load(of_dt, dt + at, width);
                    load(of_dy, dy + at, width);
                    for (int64_t n = 0; n < states; n++) {
                        float b = B[token * states + n], c = C[token * states + n], of_dB = 0, of_dC = 0;
                        const float *before = history[i * states + n], *after = history[(i + 1) * states + n];
                        const float *decay = decays[i * states + n];
#pragma omp simd reduction(+ : of_dB, of_dC)
                        for (int e = 0; e < TILE; e++) {
                            float g = dh[n][e] + c * of_dy[e];
                            of_dC += after[e] * of_dy[e];
                            of_dB += g * of_dt[e] * of_x[e];
                            du[e] += b * g;
                            g *= decay[e];
                            dh[n][e] = g;
                            g *= before[e]; /* the gradient of dt A */
                            of_dA[n][e] += g * of_dt[e];
                            of_ddt[e] += g * of_A[n][e];
                        }
                        dB[token * states + n] += of_dB;
                        dC[token * states + n] += of_dC;
                    }
                    for (int e = 0; e < TILE; e++) {
                        of_ddt[e] += du[e] * of_x[e];
                        du[e] = du[e] * of_dt[e] + of_D[e] * of_dy[e];
                        of_dD[e] += of_dy[e] * of_x[e];
                    }
                    store(dx + at, du, width);
                    store(ddt + at, of_ddt, width);
                }
            }
            store_each(dA + row * states * channels + first, of_dA, states, channels, width);
            store(dD + row * channels + first, of_dD, width);
        }
        free(of_A);
    }
    return failed;
}
