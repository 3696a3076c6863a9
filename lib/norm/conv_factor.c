/* conv_factor.c: from the norm of a reshaped kernel to that of its convolution.
 *
 * Source: deel-lip's formula, semantics.md 5.1; the sound one, certify.md C2.
 */
#include <math.h>

#include <onelip/norm.h>

static double ceil_ratio(size_t a, size_t b)
{
    return (double)((a + b - 1) / b);
}

/* How often a stride-1 kernel of size q meets the n pixels of an axis, in all: q n less what hangs over the edges. */
static double meetings(size_t q, size_t n)
{
    double half = ((double)q - 1) / 2;

    return (double)q * (double)n - half * (half + 1);
}

double lip_conv_factor(size_t kh, size_t kw, size_t s0, size_t s1, size_t h, size_t w)
{
    double square;

    if (!kh || !kw || !s0 || !s1)
        return NAN;
    if (s0 * s1 == 1)
        square = (double)w * (double)h / (meetings(kh, h) * meetings(kw, w));
    else
        square = 1 / (ceil_ratio(kh, s0) * ceil_ratio(kw, s1));
    return square >= 0 && isfinite(square) ? sqrt(square) : NAN;
}

/* Windows start at i s - before, i = 0..out-1, and are q long; pixel p lies in window i if i s - before <= p <
 * i s - before + q. */
size_t lip_conv_nu(size_t n, size_t q, size_t s)
{
    size_t out, pad, before, most = 0;

    if (!n || !q || !s)
        return 0;
    out = (n + s - 1) / s;
    pad = (out - 1) * s + q > n ? (out - 1) * s + q - n : 0;
    before = pad / 2;
    for (size_t p = 0; p < n; p++) {
        size_t end = p + before, last = end / s, first = end + 1 > q ? (end + 1 - q + s - 1) / s : 0, count;
        if (last > out - 1)
            last = out - 1;
        count = last + 1 > first ? last + 1 - first : 0;
        if (count > most)
            most = count;
    }
    return most;
}

/* Output i s + a - before of n s takes pixel i times tap a. */
size_t lip_conv_transpose_nu(size_t n, size_t q, size_t s)
{
    size_t before = q > s ? (q - s) / 2 : 0, most = 0;

    for (size_t i = 0; i < n && q && s; i++) {
        size_t from = i * s < before ? before - i * s : 0, to = n * s + before - i * s;
        to = to < q ? to : q;
        if (to > from && to - from > most)
            most = to - from;
    }
    return most;
}
