/* What the C files here have in common: tiles of channels, and the exponential.
 *
 * Arrays are (rows, length, channels), float32. TILE is a compile-time constant, so that the compiler makes vectors of
 * the loops over it; the last tile of a row is filled up with zeros. Rows go to threads; what a row gets does not
 * depend on how many there are.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TILE 32

typedef float tile[TILE];

/* exp(x) for x <= 0 to two units in the last place; 0 below 1e-38, NaN for NaN.
 *
 * exp(x) = 2^n exp(r) with |r| <= log(2) / 2, and a polynomial for exp(r) (Moshier, Cephes, expf). Written out, as a
 * call to the library's expf is not made a vector of. */
static inline float exp_of_negative(float given)
{
    float x = given < -87.0f ? -87.0f : given;
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
    return given < -87.0f ? 0.0f : p * power.value;
}

static inline int64_t width_of_tile(int64_t first, int64_t channels)
{
    return channels - first < TILE ? channels - first : TILE;
}

static inline void load(tile to, const float *from, int64_t width)
{
    if (width == TILE) { /* of a known size: two or four moves, and no call */
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

/* The same tile of `count` arrays that follow each other, as those of the states or of the taps do. */
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

/* Where step t of a row's reading stands: with `reverse` the tokens are read from the last to the first one, and stay
 * where they are. */
static inline int64_t token_of(int64_t row, int64_t t, int64_t length, int64_t reverse)
{
    return row * length + (reverse ? length - 1 - t : t);
}
