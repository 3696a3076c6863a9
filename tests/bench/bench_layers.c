/* bench_layers.c: billions of operations per second of dense and convolution layers on one thread, beside the rate of
 * OpenBLAS's sgemm in the same run. Each result is compared with sums in double before it is timed.
 *
 * `served` is the forward pass of a snapshot, whose kernels were packed when it was published: goals are for that. `trained` is
 * that of a training step, whose kernels are new each time and packed on the way; dx and dw belong to it. */
#include <math.h>

#include "bench.h"
#include "layers/layer.h"
#include "tensor/gemm.h"
#include "tensor/tile.h"
#include "tensor/im2col.h"

static const struct shape {
    const char *what;
    size_t h, w, c;       /* h 0: dense on c inputs */
    size_t kernel, stride, f, n;
    int goal;             /* served, per cent of sgemm */
} shapes[] = {
    {"dense 784 -> 256, batch 64", 0, 0, 784, 0, 0, 256, 64, 90},
    {"dense 256 -> 128, batch 64", 0, 0, 256, 0, 0, 128, 64, 90},
    {"dense 784 -> 256, batch 256", 0, 0, 784, 0, 0, 256, 256, 90},
    {"conv 28x28x1 -> 16, 3x3, batch 32", 28, 28, 1, 3, 1, 16, 32, 40},
    {"conv 28x28x1 -> 8, 3x3, batch 128", 28, 28, 1, 3, 1, 8, 128, 40},
    {"conv 32x32x3 -> 32, 5x5/2, batch 32", 32, 32, 3, 5, 2, 32, 32, 40},
    {"conv 14x14x8 -> 16, 3x3, batch 128", 14, 14, 8, 3, 1, 16, 128, 0},
    {"conv 14x14x16 -> 32, 3x3, batch 32", 14, 14, 16, 3, 1, 32, 32, 70},
    {"conv 32x32x32 -> 64, 3x3, batch 32", 32, 32, 32, 3, 1, 64, 32, 70},
    {"conv 16x16x64 -> 128, 3x3, batch 32", 16, 16, 64, 3, 1, 128, 32, 70},
    {"conv 14x14x16 -> 32, 3x3, batch 1", 14, 14, 16, 3, 1, 32, 1, 70},
};

struct work {
    const lip_layer *l;
    struct lip__pass pass;
    float *x, *y, *dy, *dx;
};

static void forward(void *ctx)
{
    struct work *w = ctx;

    w->l->kind->forward(w->l, &w->pass, w->x, w->y);
}

static void backward(void *ctx)
{
    struct work *w = ctx;

    w->l->kind->backward(w->l, &w->pass, w->x, w->y, w->dy, w->dx);
}

static void gradient(void *ctx)
{
    struct work *w = ctx;

    w->l->kind->gradient(w->l, &w->pass, w->x, w->dy);
}

static float *noise(size_t n, uint64_t stream)
{
    lip_random r = {1, stream, 0};
    float *x = lip__alloc(n, sizeof *x);

    if (!x)
        exit(1);
    lip_random_normal(&r, x, n);
    return x;
}

struct product {
    size_t m, n, k;
    float *a, *b, *c;
};

static void multiply(void *ctx)
{
    struct product *p = ctx;

    lip__gemm(false, false, p->m, p->n, p->k, 1, p->a, p->k, p->b, p->n, 0, p->c, p->n);
}

static double sgemm_rate(void)
{
    struct product p = {512, 512, 512, noise(512 * 512, 1), noise(512 * 512, 2), noise(512 * 512, 3)};
    double rate;

    lip__vector_unit_use(lip__vector_units()); /* none: OpenBLAS */
    rate = 2.0 * 512 * 512 * 512 / bench_median(multiply, &p);
    lip__vector_unit_use(lip__vector_units() - 1);
    lip__free(p.a), lip__free(p.b), lip__free(p.c);
    return rate;
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_layers: %s: %s\n", what, why);
    exit(1);
}

/* A thousand outputs, one by one, in double. */
static void compare(const struct shape *s, const struct work *w)
{
    struct lip__windows g = {.h = s->h ? s->h : 1, .w = s->h ? s->w : 1, .c = s->c, .kh = s->h ? s->kernel : 1,
                             .kw = s->h ? s->kernel : 1, .sh = s->h ? s->stride : 1, .sw = s->h ? s->stride : 1};
    lip_random r = {2, 1, 0};

    lip__windows_set(&g, true);
    for (int t = 0; t < 1000; t++) {
        size_t o = lip_random_u64(&r) % s->f, q = lip_random_u64(&r) % g.ow, p = lip_random_u64(&r) % g.oh;
        size_t i = lip_random_u64(&r) % s->n;
        double sum = w->pass.w[1][o], size = fabs(sum);
        for (size_t a = 0; a < g.kh; a++)
            for (size_t b = 0; b < g.kw; b++) {
                size_t row = p * g.sh + a - g.top, column = q * g.sw + b - g.left; /* outside wraps to huge numbers */
                for (size_t c = 0; c < g.c && row < g.h && column < g.w; c++) {
                    double term = (double)w->x[((i * g.h + row) * g.w + column) * g.c + c] *
                                  w->pass.w[0][((a * g.kw + b) * g.c + c) * s->f + o];
                    sum += term;
                    size += fabs(term);
                }
            }
        double y = w->y[((i * g.oh + p) * g.ow + q) * s->f + o];
        if (!(fabs(y - sum) <= 1e-6 * size))
            die(s->what, "a result is wrong");
    }
}

static void measure(const struct shape *s, double sgemm)
{
    lip_layer *l = lip__layer_new(lip__kind_find(s->h ? "Conv2D" : "Dense"));
    lip_error err = {0};
    float *w[2], *dw[2];

    if (!l)
        die(s->what, "out of memory");
    if (s->h) {
        struct lip__conv *c = (struct lip__conv *)l;
        c->filters = (long)s->f;
        c->kernel[0] = c->kernel[1] = s->kernel;
        c->strides[0] = c->strides[1] = s->stride;
        c->padding = "same";
    } else {
        ((struct lip__dense *)l)->units = (long)s->f;
    }
    if (lip__layer_build(l, &(lip_shape){s->h ? 3 : 1, {s->h ? s->h : s->c, s->w, s->c}}, &err))
        die(s->what, err.text);
    for (int i = 0; i < 2; i++) {
        w[i] = noise(lip_shape_count(&l->declared[i].shape), (uint64_t)i);
        dw[i] = noise(lip_shape_count(&l->declared[i].shape), (uint64_t)i);
    }
    struct lip__pass pass = {.n = s->n, .w = (const float *const *)w, .dw = dw,
                             .scratch = noise(l->kind->scratch ? l->kind->scratch(l) : 1, 3)};
    struct work work = {l, pass, noise(s->n * lip_shape_count(&l->in), 4), noise(s->n * lip_shape_count(&l->out), 5),
                        noise(s->n * lip_shape_count(&l->out), 6), noise(s->n * lip_shape_count(&l->in), 7)};
    double operations = (double)s->n * l->kind->flops(l);
    float *packed = lip__alloc(l->kind->packed(l) + 1, sizeof *packed);
    if (!packed)
        die(s->what, "out of memory");
    forward(&work);
    compare(s, &work);
    double rate[] = {operations / bench_median(forward, &work), operations / bench_median(backward, &work),
                     operations / bench_median(gradient, &work)};
    if (l->kind->packed(l)) { /* 0: what is served is what is trained */
        l->kind->pack(l, pass.w, packed);
        work.pass.packed = packed;
    }
    forward(&work);
    compare(s, &work);
    double served = operations / bench_median(forward, &work);
    printf("%-38s served %6.1f GF/s (%3.0f %% of sgemm", s->what, served, 100 * served / sgemm);
    if (s->goal)
        printf(", at least %d %%: %s", s->goal, 100 * served >= s->goal * sgemm ? "reached" : "MISSED");
    printf(")  trained %6.1f (%3.0f %%)  dx %6.1f  dw %6.1f\n", rate[0], 100 * rate[0] / sgemm, rate[1], rate[2]);
    lip__free(packed);
    for (int i = 0; i < 2; i++)
        lip__free(w[i]), lip__free(dw[i]);
    lip__free(work.pass.scratch), lip__free(work.x), lip__free(work.y), lip__free(work.dy), lip__free(work.dx);
    lip__layer_free(l);
}

int main(void)
{
    double sgemm = sgemm_rate();

    bench_cpu();
    printf("OpenBLAS core %s, one thread; sgemm 512x512x512: %.1f GF/s\n", lip__blas_core(), sgemm);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        measure(&shapes[i], sgemm);
    return 0;
}
