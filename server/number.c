/* number.c: decimal to float32 and back.
 *
 * Both directions multiply by a power of ten of which 64 bits are known. Reading keeps the product as an interval and
 * goes to strtof when a midpoint of two floats lies in it; writing needs the power rounded up, which is proven enough
 * for 24-bit significands.
 */
#include "number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

typedef unsigned __int128 u128;

enum { POWER_MIN = -54, POWER_MAX = 45 };

/* 10^k = power[k - POWER_MIN] * 2^(log2_power(k) - 63), rounded down; exact where the flag says so. */
static uint64_t power[POWER_MAX - POWER_MIN + 1];
static bool power_exact[POWER_MAX - POWER_MIN + 1];

/* floor(log2(10^k)) for |k| < 1000. */
static int log2_power(int k)
{
    return (k * 1741647) >> 19;
}

static unsigned bits_of(u128 x)
{
    uint64_t high = (uint64_t)(x >> 64);
    return high ? 128 - (unsigned)__builtin_clzll(high) : 64 - (unsigned)__builtin_clzll((uint64_t)x | 1);
}

/* 5^|k| fits 128 bits here, and the power of two only moves the point. Runs before main. */
static void power_fill(void) __attribute__((constructor));
static void power_fill(void)
{
    u128 five = 1;

    for (int k = 0; k <= POWER_MAX; k++, five *= 5) {
        unsigned bits = bits_of(five);
        u128 top = bits > 64 ? five >> (bits - 64) : five << (64 - bits);
        power[k - POWER_MIN] = (uint64_t)top;
        power_exact[k - POWER_MIN] = bits <= 64 || top << (bits - 64) == five;
    }
    five = 1;
    for (int k = -1; k >= POWER_MIN; k--) {
        u128 rest = 1;
        uint64_t quotient = 0;
        five *= 5;
        /* Long division of a power of two by 5^-k, until 64 bits of the quotient stand. */
        while (!(quotient >> 63)) {
            rest <<= 1;
            quotient <<= 1;
            if (rest >= five) {
                rest -= five;
                quotient |= 1;
            }
        }
        power[k - POWER_MIN] = quotient;
        power_exact[k - POWER_MIN] = false;
    }
}

static const double small_power[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                     1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static const uint64_t whole_power[] = {1,         10,         100,         1000,         10000,         100000,
                                       1000000,   10000000,   100000000,   1000000000,   10000000000,   100000000000,
                                       1000000000000, 10000000000000, 100000000000000, 1000000000000000};

/* Whether the double d, correctly rounded from some decimal, may lie exactly between two floats or needs the rules of
 * subnormals and infinity. */
static bool hard(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return (bits & 0x1fffffff) == 0x10000000 || d < 0x1p-126 || d >= 0x1.ffffffp127;
}

/* w * 10^k, where w has 64 bits and k is in the table's range; false: too close to a midpoint, or not a normal float. */
static bool from_product(uint64_t w, int k, float *value)
{
    unsigned shift = (unsigned)__builtin_clzll(w);
    uint64_t high;
    int exponent; /* of the product's highest bit */

    high = (uint64_t)(((u128)(w << shift) * power[k - POWER_MIN]) >> 64);
    exponent = 63 - (int)shift + log2_power(k) + 1;
    if (!(high >> 63)) {
        high <<= 1;
        exponent--;
    }
    /* The power was cut by less than 1, the product by less than 1, and the shift doubled both: the true value lies in
     * [high, high + 4]. Bits 0..39 are to be rounded away; no midpoint may lie in the interval or touch it. */
    uint64_t rest = high & 0xffffffffff;
    if ((rest <= 0x8000000000 && rest + 5 >= 0x8000000000) || exponent < -126 || exponent > 126)
        return false;
    /* A significand of 2^24 carries into the exponent, as it should. */
    uint32_t significand = (uint32_t)(high >> 40) + (rest > 0x8000000000);
    uint32_t bits = ((uint32_t)(exponent + 127) << 23) + (significand - (1u << 23));
    memcpy(value, &bits, sizeof bits);
    return true;
}

static bool digit(const char *at, const char *end)
{
    return at < end && (unsigned char)(*at - '0') < 10;
}

/* Eight bytes of text less "00000000"; the first one is the lowest. */
static uint64_t load_eight(const char *at)
{
    uint64_t v;

    memcpy(&v, at, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v ^ 0x3030303030303030;
}

/* How many of the eight are digits, from the first one on. A sum may carry into the next byte only behind one that is none. */
static unsigned count_digits(uint64_t v)
{
    uint64_t other = ((v + 0x7676767676767676) | v) & 0x8080808080808080;

    return other ? (unsigned)__builtin_ctzll(other) / 8 : 8;
}

/* The number that eight digits are. Source: the carries of single bytes cannot meet, as in Lemire, "Number Parsing at a
 * Gigabyte per Second", section 7. */
static uint64_t number_of(uint64_t v)
{
    v = v * 10 + (v >> 8);
    return (((v & 0x000000ff000000ff) * 0x000f424000000064 + ((v >> 16) & 0x000000ff000000ff) * 0x0000271000000001) >> 32) &
           0xffffffff;
}

/* Digits from `at` on go behind w, modulo 2^64. The byte behind them. */
static const char *digits(const char *at, const char *end, uint64_t *w)
{
    uint64_t eight;

    while (end - at >= 8 && count_digits(eight = load_eight(at)) == 8) {
        *w = *w * 100000000 + number_of(eight);
        at += 8;
    }
    for (; digit(at, end); at++)
        *w = 10 * *w + (uint64_t)(*at - '0');
    return at;
}

/* The first 19 significant digits of an integer and a fraction, which have more of them. *exponent: of the last one's place;
 * *cut: one of the others is not 0. */
static uint64_t first_digits(const char *at, const char *end, long *exponent, bool *cut)
{
    uint64_t w = 0;
    bool fraction = false;
    int n = 0;

    *exponent = 0;
    *cut = false;
    for (; at < end; at++) {
        if (*at == '.') {
            fraction = true;
        } else if (n < 19) {
            w = 10 * w + (uint64_t)(*at - '0');
            n += w > 0;
            *exponent -= fraction;
        } else {
            *cut |= *at != '0';
            *exponent += !fraction;
        }
    }
    return w;
}

/* The number that the digits at the beginning of 16 bytes are; *n of them. */
typedef uint64_t sixteen(const char *at, unsigned *n);

static uint64_t sixteen_anywhere(const char *at, unsigned *n)
{
    uint64_t high = load_eight(at), low = load_eight(at + 8);
    unsigned n_high = count_digits(high);
    u128 both;

    *n = n_high < 8 ? n_high : 8 + count_digits(low);
    if (!*n)
        return 0;
    both = ((u128)low << 64 | high) << (8 * (16 - *n)); /* zeros go in front */
    return number_of((uint64_t)both) * 100000000 + number_of((uint64_t)(both >> 64));
}

#ifdef __x86_64__
__attribute__((target("sse4.1"))) static inline uint64_t sixteen_sse(const char *at, unsigned *n)
{
    static const int8_t behind_zeros[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                            0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15};
    const __m128i ten = _mm_set1_epi8(10);
    __m128i v = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(const void *)at), _mm_set1_epi8('0'));
    uint64_t halves;

    *n = (unsigned)__builtin_ctz((unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(v, ten), ten)) | 1u << 16);
    v = _mm_shuffle_epi8(v, _mm_loadu_si128((const __m128i *)(const void *)(behind_zeros + *n)));
    v = _mm_maddubs_epi16(v, _mm_set1_epi16(1 << 8 | 10));
    v = _mm_madd_epi16(v, _mm_set1_epi32(1 << 16 | 100));
    v = _mm_madd_epi16(_mm_packus_epi32(v, v), _mm_set1_epi32(1 << 16 | 10000));
    halves = (uint64_t)_mm_cvtsi128_si64(v);
    return (halves & 0xffffffff) * 100000000 + (halves >> 32);
}
#endif

/* One digit, a point and up to 15 more, as most numbers are: without a loop, whose end the processor could not foresee.
 * NULL: something else, or not so easily rounded. */
static inline __attribute__((always_inline)) const char *read_plain(const char *at, float *value, sixteen *read)
{
    const char *digits = at + 2;
    unsigned whole = (unsigned char)(*at - '0'), n;
    int64_t w;
    double d;

    if (whole > 9 || digits[-1] != '.')
        return NULL;
    w = (int64_t)read(digits, &n);
    if (n == 0 || n == 16 || (digits[n] | 32) == 'e')
        return NULL;
    w += (int64_t)(whole * whole_power[n]);
    d = (double)w / small_power[n];
    *value = (float)d;
    return w > (int64_t)1 << 53 || hard(d) ? NULL : digits + n;
}

/* The same behind a sign, which is guessed: where the digits are must not wait for it. */
#define USUAL_BYTES 20 /* that can be read there */
static inline __attribute__((always_inline)) const char *read_usual(const char *at, float *value, sixteen *read)
{
    const char *behind;

    if (*at != '-')
        return read_plain(at, value, read);
    behind = read_plain(at + 1, value, read);
    *value = -*value;
    return behind;
}

/* Any other. */
static const char *read_any(const char *at, const char *end, float *value)
{
    const char *start = at, *first, *point = NULL;
    bool negative = at < end && *at == '-';
    uint64_t w = 0;
    long exponent = 0; /* of the place of w's last digit */
    bool cut = false;  /* digits beyond w that are not 0 */

    at += negative;
    first = at;
    while (digit(at, end) && at - first < 19) /* mostly one */
        w = 10 * w + (uint64_t)(*at++ - '0');
    while (digit(at, end))
        at++;
    if (at == first || (*first == '0' && at - first > 1))
        return NULL;
    if (at < end && *at == '.') {
        point = at;
        at = digits(at + 1, end, &w);
        if (at == point + 1)
            return NULL;
        exponent = -(at - point - 1);
    }
    if (at - first - (point != NULL) > 19)
        w = first_digits(first, at, &exponent, &cut);
    if (at < end && (*at == 'e' || *at == 'E')) {
        bool down;
        long e = 0;
        at++;
        down = at < end && *at == '-';
        at += at < end && (*at == '-' || *at == '+');
        if (!digit(at, end))
            return NULL;
        for (; digit(at, end); at++)
            if (e < 1000000)
                e = 10 * e + (*at - '0');
        exponent += down ? -e : e;
    }

    float x;
    bool done = false;
    if (w == 0) {
        x = 0.0f;
        done = true;
    } else if (!cut && w <= (uint64_t)1 << 53 && exponent >= -22 && exponent <= 22) {
        double d = exponent < 0 ? (double)w / small_power[-exponent] : (double)w * small_power[exponent];
        x = (float)d;
        done = !hard(d);
        if (!done && exponent == 0 && w < (uint64_t)1 << 24)
            done = true;
    }
    if (!done && !cut && exponent >= POWER_MIN && exponent <= POWER_MAX)
        done = from_product(w, (int)exponent, &x);
    if (!done)
        x = fabsf(strtof(start, NULL));
    *value = negative ? -x : x;
    return at;
}

const char *number_read(const char *at, const char *end, float *value)
{
    const char *behind = end - at >= USUAL_BYTES ? read_usual(at, value, sixteen_anywhere) : NULL;

    return behind ? behind : read_any(at, end, value);
}

static inline __attribute__((always_inline)) size_t read_more(const char **at, const char *end, float *x, size_t n,
                                                              sixteen *read)
{
    const char *p = *at;
    size_t have = 0, gap = end - p >= 2 && p[1] == ' ' ? 2 : 1; /* as the first, so all */

    while (have < n && end - p >= 2 && *p == ',' && (gap == 1 || p[1] == ' ')) {
        const char *from = p + gap, *next = end - from >= USUAL_BYTES ? read_usual(from, &x[have], read) : NULL;

        if (!next && (!(next = read_any(from, end, &x[have])) || isinf(x[have])))
            break;
        p = next;
        have++;
    }
    *at = p;
    return have;
}

#ifdef __x86_64__
__attribute__((target("sse4.1"))) static size_t read_more_sse(const char **at, const char *end, float *x, size_t n)
{
    return read_more(at, end, x, n, sixteen_sse);
}
#endif

size_t number_read_more(const char **at, const char *end, float *x, size_t n)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.1"))
        return read_more_sse(at, end, x, n);
#endif
    return read_more(at, end, x, n, sixteen_anywhere);
}

/* ---- writing ------------------------------------------------------------------------------------------ */

/* The upper 32 bits of g * c * 2^-32, with the lowest bit set when anything was cut. */
static uint32_t round_to_odd(uint64_t g, uint32_t c)
{
    u128 p = (u128)g * c;
    uint32_t high = (uint32_t)(p >> 64), low = (uint32_t)(p >> 32);
    return high | (low > 1);
}

/* x = digits * 10^*exponent, shortest. */
static uint32_t shortest(uint32_t significand, uint32_t biased, int *exponent)
{
    uint32_t c = biased ? significand | (uint32_t)1 << 23 : significand;
    int q = biased ? (int)biased - 150 : -149;

    if (biased && q <= 0 && q > -24 && (c & (((uint32_t)1 << -q) - 1)) == 0) {
        *exponent = 0;
        return c >> -q; /* an integer below 2^24 */
    }
    bool odd = c & 1, closer = significand == 0 && biased > 1;
    int k = (q * 1262611 - (closer ? 524031 : 0)) >> 22;
    int h = q + log2_power(-k) + 1;
    uint64_t g = power[-k - POWER_MIN] + !power_exact[-k - POWER_MIN];
    uint32_t lower = round_to_odd(g, (4 * c - 2 + closer) << h) + odd;
    uint32_t middle = round_to_odd(g, 4 * c << h);
    uint32_t upper = round_to_odd(g, (4 * c + 2) << h) - odd;
    uint32_t s = middle / 4;

    if (s >= 10) {
        uint32_t t = s / 10;
        bool down = lower <= 40 * t, up = 40 * t + 40 <= upper;
        if (down != up) {
            *exponent = k + 1;
            return t + up;
        }
    }
    bool down = lower <= 4 * s, up = 4 * s + 4 <= upper;
    *exponent = k;
    if (down != up)
        return s + up;
    return s + (middle > 4 * s + 2 || (middle == 4 * s + 2 && (s & 1)));
}

size_t number_write(float x, char *text)
{
    uint32_t bits, digits;
    char reversed[12], *out = text;
    int exponent, n = 0;

    memcpy(&bits, &x, sizeof bits);
    if (bits >> 31)
        *out++ = '-';
    if (!(bits << 1)) {
        *out++ = '0';
        if (bits) {
            *out++ = '.';
            *out++ = '0';
        }
        return (size_t)(out - text);
    }
    digits = shortest(bits & 0x7fffff, bits >> 23 & 0xff, &exponent);
    while (digits % 10 == 0) {
        digits /= 10;
        exponent++;
    }
    for (; digits; digits /= 10)
        reversed[n++] = (char)('0' + digits % 10);

    int point = n + exponent; /* digits before the decimal point */
    if (exponent >= 0 && point <= 9) { /* 1200 */
        while (n)
            *out++ = reversed[--n];
        for (; exponent; exponent--)
            *out++ = '0';
    } else if (point > 0 && point <= 9) { /* 12.34 */
        for (; n; point--) {
            if (point == 0)
                *out++ = '.';
            *out++ = reversed[--n];
        }
    } else if (point <= 0 && point > -4) { /* 0.0001234 */
        *out++ = '0';
        *out++ = '.';
        for (; point < 0; point++)
            *out++ = '0';
        while (n)
            *out++ = reversed[--n];
    } else { /* 1.234e-12 */
        int e = point - 1;
        *out++ = reversed[--n];
        if (n)
            *out++ = '.';
        while (n)
            *out++ = reversed[--n];
        *out++ = 'e';
        if (e < 0) {
            *out++ = '-';
            e = -e;
        }
        if (e >= 10)
            *out++ = (char)('0' + e / 10);
        *out++ = (char)('0' + e % 10);
    }
    return (size_t)(out - text);
}
