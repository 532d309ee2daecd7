/* The short causal convolution of trm/mixers/conv.py with the SiLU after it, and its gradients.
 *
 *     y[t] = s[t] sigmoid(s[t]), s[t] = bias + sum_j taps[j] x[t - j]
 *
 *     x                       (rows, length, channels); from one token to the next `stride` numbers
 *     taps, bias              (k, channels) in order of their delay j, (channels)
 *     y, dy, dx               (rows, length, channels), contiguous
 *     dtaps, dbias            (rows, k, channels), (rows, channels): the caller sums over the rows
 *
 * One pass over each tile of channels: the last k tokens are kept, token t in slot t % k.
 */

#include "tiles.h"

/* The slot of the token that was read j steps before the one in `slot`. */
static inline int64_t before(int64_t slot, int64_t j, int64_t k)
{
    return slot >= j ? slot - j : slot - j + k;
}

static inline void convolve(tile sum, const tile of_bias, const tile *of_taps, const tile *of_x, int64_t slot,
                            int64_t reach, int64_t k)
{
    memcpy(sum, of_bias, sizeof(tile));
    for (int64_t j = 0; j < reach; j++) {
        const float *tap = of_taps[j], *x = of_x[before(slot, j, k)];
        for (int e = 0; e < TILE; e++)
            sum[e] += tap[e] * x[e];
    }
}

static inline float sigmoid(float x)
{
    float e = exp_of_negative(x < 0 ? x : -x);
    return (x < 0 ? e : 1.0f) / (1.0f + e);
}

/* Gives 0, or 1 where there is no memory. */
int conv_silu(int64_t rows, int64_t length, int64_t channels, int64_t k, int64_t stride, int64_t reverse,
              int64_t threads, const float *x, const float *taps, const float *bias, float *y)
{
    int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        tile *of_taps = malloc(2 * (size_t)k * sizeof(tile)), *of_x = of_taps + k;
        if (!of_taps) {
#pragma omp atomic write
            failed = 1;
            continue;
        }
        for (int64_t first = 0; first < channels; first += TILE) {
            int64_t width = width_of_tile(first, channels);
            tile of_bias;
            load(of_bias, bias + first, width);
            load_each(of_taps, taps + first, k, channels, width);
            for (int64_t t = 0; t < length; t++) {
                int64_t token = token_of(row, t, length, reverse), slot = t % k;
                tile sum;
                load(of_x[slot], x + token * stride + first, width);
                convolve(sum, of_bias, of_taps, of_x, slot, t < k ? t + 1 : k, k);
                for (int e = 0; e < TILE; e++)
                    sum[e] *= sigmoid(sum[e]);
                store(y + token * channels + first, sum, width);
            }
        }
        free(of_taps);
    }
    return failed;
}

int conv_silu_gradients(int64_t rows, int64_t length, int64_t channels, int64_t k, int64_t stride, int64_t reverse,
                        int64_t threads, const float *x, const float *taps, const float *bias, const float *dy,
                        float *dx, float *dtaps, float *dbias)
{
    int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        tile *of_taps = malloc(4 * (size_t)k * sizeof(tile)), *of_x = of_taps + k;
        tile *of_dx = of_x + k, *of_dtaps = of_dx + k;
        if (!of_taps) {
#pragma omp atomic write
            failed = 1;
            continue;
        }
        for (int64_t first = 0; first < channels; first += TILE) {
            int64_t width = width_of_tile(first, channels);
            tile of_bias, of_dbias = {0};
            load(of_bias, bias + first, width);
            load_each(of_taps, taps + first, k, channels, width);
            memset(of_dtaps, 0, (size_t)k * sizeof(tile));
            for (int64_t t = 0; t < length; t++) {
                int64_t token = token_of(row, t, length, reverse), slot = t % k, reach = t < k ? t + 1 : k;
                tile ds, of_dy;
                if (t >= k) /* no later token reads the one that leaves */
                    store(dx + token_of(row, t - k, length, reverse) * channels + first, of_dx[slot], width);
                memset(of_dx[slot], 0, sizeof(tile));
                load(of_x[slot], x + token * stride + first, width);
                load(of_dy, dy + token * channels + first, width);
                convolve(ds, of_bias, of_taps, of_x, slot, reach, k);
                for (int e = 0; e < TILE; e++) {
                    float share = sigmoid(ds[e]);
                    ds[e] = of_dy[e] * share * (1.0f + ds[e] * (1.0f - share));
                    of_dbias[e] += ds[e];
                }
                for (int64_t j = 0; j < reach; j++) {
                    int64_t earlier = before(slot, j, k);
                    for (int e = 0; e < TILE; e++) {
                        of_dtaps[j][e] += ds[e] * of_x[earlier][e];
                        of_dx[earlier][e] += ds[e] * of_taps[j][e];
                    }
                }
            }
            for (int64_t t = length < k ? 0 : length - k; t < length; t++)
                store(dx + token_of(row, t, length, reverse) * channels + first, of_dx[t % k], width);
            store_each(dtaps + row * k * channels + first, of_dtaps, k, channels, width);
            store(dbias + row * channels + first, of_dbias, width);
        }
        free(of_taps);
    }
    return failed;
}
