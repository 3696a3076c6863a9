/* rescaled.c: ReLU and its like, sorting and pooling commute with positive factors: D phi(z) = phi(D z), D one factor
 * for each channel and the same one for channels that are sorted together. So with any such D_k between the linear
 * steps of a path
 *
 *     ||… W_2 phi W_1|| <= … ||D_1^-1 W_2 D_2|| L_phi ||W_1 D_1||,
 *
 * and log of the product is convex in log D: for the singular vectors u, v of the largest singular value of one factor,
 * its derivative is v_j^2 for the columns' factors less u_i^2 for the rows'. Descent is in plain double, on the kernels
 * as matrices; whatever factors it finds, the scaled steps are then proved like those of any layer. Source: certify.md
 * C4.
 */
#include "bounds/rescaled.h"

#include <string.h>

#include "tensor/gemm.h"

enum { STEPS = 200, POWER = 3, SWEEPS = 4, WARM = 4 };
#define RATE 0.1

/* A linear step: its kernel (m, n), scaled. */
struct part {
    const struct lip__stage *stage;
    double *scaled, *u, *v; /* (m, n), m, n: the vectors of its largest singular value */
    double *left, *right;   /* m, n: factors of rows and columns */
    struct { /* what stands behind it: factors for each channel; 0: none, the path's end or nothing commutes */
        size_t n, group;
        double gain;                                  /* of all steps between here and the next part */
        double *t, *best, *gradient, *first, *second; /* log D, and Adam's */
    } behind;
};

struct path {
    struct part *part; /* first to last */
    size_t n, from;
};

/* ---- which steps ------------------------------------------------------------------------------------------------ */

static size_t maker_of(const struct lip__map *map, size_t value)
{
    for (size_t i = 0; i < map->n; i++)
        if (map->stage[i].value == value)
            return i;
    return map->n;
}

static bool linear(const struct lip__stage *s)
{
    return s->kind == LIP__STAGE_MATRIX || s->kind == LIP__STAGE_CONV || s->kind == LIP__STAGE_ADJOINT;
}

/* Channels that a linear step makes: the last axis; and reads. */
static size_t makes(const struct lip__stage *s)
{
    return s->kind == LIP__STAGE_ADJOINT ? s->conv.g.c : s->n;
}

static size_t channels_read(const struct lip__stage *s)
{
    return s->kind == LIP__STAGE_MATRIX ? s->m : s->kind == LIP__STAGE_CONV ? s->conv.g.c : s->n;
}

/* Whether the step leaves factors of c channels what they are, up to a gain; *group: how many next to each other have
 * one. Number i of a sample is of channel i % c, so wherever numbers are taken apart that must hold for the parts too.
 */
static bool commutes(const struct lip__stage *s, size_t c, size_t *group)
{
    switch (s->kind) {
    case LIP__STAGE_COPY:
    case LIP__STAGE_SCALE:
    case LIP__STAGE_AFFINE:
        return true;
    case LIP__STAGE_AVERAGE:
    case LIP__STAGE_L2:
    case LIP__STAGE_MAXIMUM:
        return s->windows.c % c == 0;
    case LIP__STAGE_RELU:
        return isnan(s->most);
    case LIP__STAGE_MAX_MIN: /* channels j and j + c are of one: both have remainder j */
        return s->layer->in.dim[s->layer->in.rank - 1] == c;
    case LIP__STAGE_SORT:
        if (c % s->group || s->group % *group) /* sorted across what is counted modulo c, or another grouping before */
            *group = c;
        else
            *group = s->group;
        return true;
    default:
        return false;
    }
}

static lip_err part_open(const struct lip__stage *s, struct part *p, lip_error *err)
{
    p->stage = s; /* what stands behind it is known already */
    p->scaled = lip__alloc(s->m * s->n, sizeof *p->scaled);
    p->u = lip__alloc(s->m, sizeof *p->u);
    p->v = lip__alloc(s->n, sizeof *p->v);
    p->left = lip__alloc(s->m, sizeof *p->left);
    p->right = lip__alloc(s->n, sizeof *p->right);
    return p->scaled && p->u && p->v && p->left && p->right ? LIP_OK : lip__nomem(err, s->m * s->n * sizeof *p->scaled);
}

/* From `stage` back; parts last first. */
static lip_err walk(const struct lip__map *map, size_t stage, bool *covered, struct path *path, lip_error *err)
{
    while (stage < map->n && linear(&map->stage[stage])) {
        const struct lip__stage *s = &map->stage[stage];
        struct part *p = &path->part[path->n++];
        size_t at = maker_of(map, s->from[0]), group = 1;
        double gain = 1;
        bool commuting = true;
        lip_err rc = part_open(s, p, err);

        covered[stage] = true;
        path->from = s->from[0];
        if (rc)
            return rc;
        for (; at < map->n && !linear(&map->stage[at]); at = maker_of(map, map->stage[at].from[0])) {
            if (map->stage[at].n_from != 1 || isnan(map->stage[at].gain))
                return LIP_OK;
            gain = lip__times_up(gain, map->stage[at].gain);
        }
        if (at == map->n) /* the model's input */
            return LIP_OK;
        /* The same steps again, now that their channels are known. */
        for (size_t i = maker_of(map, s->from[0]); i != at; i = maker_of(map, map->stage[i].from[0]))
            commuting = commuting && commutes(&map->stage[i], makes(&map->stage[at]), &group);
        path->part[path->n].behind.gain = gain;
        path->part[path->n].behind.n =
            commuting && channels_read(s) % makes(&map->stage[at]) == 0 && group < makes(&map->stage[at])
                ? makes(&map->stage[at])
                : 0;
        path->part[path->n].behind.group = group;
        stage = at;
    }
    return LIP_OK;
}

static lip_err path_open(const struct lip__map *map, size_t stage, bool *covered, struct path *path, lip_error *err)
{
    lip_err rc;

    *path = (struct path){.part = lip__alloc(map->n + 1, sizeof *path->part)};
    if (!path->part)
        return lip__nomem(err, (map->n + 1) * sizeof *path->part);
    path->part[0].behind.gain = 1;
    rc = walk(map, stage, covered, path, err);
    for (size_t i = 0; i < path->n / 2; i++) {
        struct part swap = path->part[i];

        path->part[i] = path->part[path->n - 1 - i];
        path->part[path->n - 1 - i] = swap;
    }
    for (size_t i = 0; !rc && i < path->n; i++) {
        struct part *p = &path->part[i];

        if (!p->behind.n)
            continue;
        p->behind.t = lip__alloc(5 * p->behind.n, sizeof(double));
        if (!p->behind.t)
            return lip__nomem(err, 5 * p->behind.n * sizeof(double));
        p->behind.best = p->behind.t + p->behind.n;
        p->behind.gradient = p->behind.best + p->behind.n;
        p->behind.first = p->behind.gradient + p->behind.n;
        p->behind.second = p->behind.first + p->behind.n;
    }
    return rc;
}

static void path_close(struct path *path)
{
    for (size_t i = 0; i < path->n; i++) {
        lip__free(path->part[i].behind.t);
        lip__free(path->part[i].right);
        lip__free(path->part[i].left);
        lip__free(path->part[i].v);
        lip__free(path->part[i].u);
        lip__free(path->part[i].scaled);
    }
    lip__free(path->part);
}

/* ---- scaled kernels --------------------------------------------------------------------------------------------- */

/* Which channel, of n, each row or column of a part's kernel reads: rows of a convolution's are taps of channels, its
 * columns what it makes; of an adjoint the other way round. */
static size_t reads(const struct part *p, size_t n, size_t i)
{
    return (p->stage->kind == LIP__STAGE_CONV ? i % p->stage->conv.g.c : i) % n;
}

/* Of the side that makes. */
static size_t makes_at(const struct part *p, size_t i)
{
    return p->stage->kind == LIP__STAGE_ADJOINT ? i % p->stage->conv.g.c : i;
}

/* The sides of a kernel: how many rows or columns read, how many make, and something of each. */
static size_t side(const struct part *p, bool reading)
{
    return reading == (p->stage->kind != LIP__STAGE_ADJOINT) ? p->stage->m : p->stage->n;
}

static double *of_side(const struct part *p, bool reading, double *rows, double *columns)
{
    return reading == (p->stage->kind != LIP__STAGE_ADJOINT) ? rows : columns;
}

/* The kernel with the factors of what stands in front of and behind it. */
static void scale(const struct part *before, struct part *p, bool best)
{
    size_t m = p->stage->m, n = p->stage->n;
    const double *in = before && before->behind.n ? best ? before->behind.best : before->behind.t : NULL;
    const double *out = p->behind.n ? best ? p->behind.best : p->behind.t : NULL;
    double *from = of_side(p, true, p->left, p->right), *to = of_side(p, false, p->left, p->right);

    for (size_t i = 0; i < side(p, true); i++)
        from[i] = in ? exp(-in[reads(p, before->behind.n, i)]) : 1;
    for (size_t i = 0; i < side(p, false); i++)
        to[i] = out ? exp(out[makes_at(p, i)]) : 1;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            p->scaled[i * n + j] = p->left[i] * p->right[j] * p->stage->kernel[i * n + j];
}

static double normalise(double *x, size_t n)
{
    double square = 0;

    for (size_t i = 0; i < n; i++)
        square += x[i] * x[i];
    for (size_t i = 0; i < n && square > 0; i++)
        x[i] /= sqrt(square);
    return sqrt(square);
}

/* The largest singular value by a few steps from v. */
static double stretch(struct part *p)
{
    size_t m = p->stage->m, n = p->stage->n;
    double length = 0;

    for (int i = 0; i < POWER; i++) {
        lip__dgemm(false, false, m, 1, n, 1, p->scaled, n, p->v, 1, 0, p->u, 1);
        normalise(p->u, m);
        lip__dgemm(true, false, n, 1, m, 1, p->scaled, n, p->u, 1, 0, p->v, 1);
        length = normalise(p->v, n);
    }
    return length;
}

/* ---- descent ---------------------------------------------------------------------------------------------------- */

/* log of the product, its gradient. */
static double look(struct path *path)
{
    double sum = 0;

    for (size_t k = 0; k < path->n; k++)
        if (path->part[k].behind.n)
            memset(path->part[k].behind.gradient, 0, path->part[k].behind.n * sizeof(double));
    for (size_t k = 0; k < path->n; k++) {
        struct part *p = &path->part[k], *before = k ? &path->part[k - 1] : NULL;
        const double *from = of_side(p, true, p->u, p->v), *to = of_side(p, false, p->u, p->v);

        scale(before, p, false);
        sum += log(stretch(p));
        for (size_t i = 0; before && before->behind.n && i < side(p, true); i++)
            before->behind.gradient[reads(p, before->behind.n, i)] -= from[i] * from[i];
        for (size_t i = 0; p->behind.n && i < side(p, false); i++)
            p->behind.gradient[makes_at(p, i)] += to[i] * to[i];
    }
    return sum;
}

/* Channels that are sorted together have one factor. */
static void join(struct part *p)
{
    for (size_t i = 0; i < p->behind.n; i += p->behind.group) {
        double sum = 0;

        for (size_t j = i; j < i + p->behind.group; j++)
            sum += p->behind.gradient[j];
        for (size_t j = i; j < i + p->behind.group; j++)
            p->behind.gradient[j] = sum;
    }
}

static void move(struct path *path, int count, double rate)
{
    double c1 = 1 - pow(0.9, count), c2 = 1 - pow(0.99, count);

    for (size_t k = 0; k < path->n; k++) {
        struct part *p = &path->part[k];

        join(p);
        for (size_t i = 0; i < p->behind.n; i++) {
            double g = p->behind.gradient[i];

            p->behind.first[i] += 0.1 * (g - p->behind.first[i]);
            p->behind.second[i] += 0.01 * (g * g - p->behind.second[i]);
            p->behind.t[i] -= rate * p->behind.first[i] / c1 / (sqrt(p->behind.second[i] / c2) + 1e-12);
            p->behind.t[i] = fmin(30, fmax(-30, p->behind.t[i]));
        }
    }
}

static void keep(struct path *path)
{
    for (size_t k = 0; k < path->n; k++)
        if (path->part[k].behind.n)
            memcpy(path->part[k].behind.best, path->part[k].behind.t, path->part[k].behind.n * sizeof(double));
}

/* Squares of the rows or columns of each channel of n, on the side of p that reads them or makes them. */
static void squares(const struct part *p, bool reading, size_t n, double *of)
{
    size_t rows = p->stage->m, columns = p->stage->n;
    bool by_row = reading == (p->stage->kind != LIP__STAGE_ADJOINT);

    memset(of, 0, n * sizeof *of);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) {
            size_t at = by_row ? i : j;

            of[reading ? reads(p, n, at) : makes_at(p, at)] += p->scaled[i * columns + j] * p->scaled[i * columns + j];
        }
}

/* Where to begin: what a channel is made with and what it is read with are equally long. */
static void balance(struct path *path)
{
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (size_t k = 0; k + 1 < path->n; k++) {
            struct part *p = &path->part[k];

            if (!p->behind.n)
                continue;
            scale(k ? p - 1 : NULL, p, false);
            scale(p, p + 1, false);
            squares(p, false, p->behind.n, p->behind.first);
            squares(p + 1, true, p->behind.n, p->behind.second);
            for (size_t i = 0; i < p->behind.n; i += p->behind.group) {
                double makes = 0, reads = 0;

                for (size_t j = i; j < i + p->behind.group; j++) {
                    makes += p->behind.first[j];
                    reads += p->behind.second[j];
                }
                for (size_t j = i; j < i + p->behind.group; j++)
                    p->behind.t[j] += makes > 0 && reads > 0 ? fmin(5, fmax(-5, log(reads / makes) / 4)) : 0;
            }
            memset(p->behind.first, 0, 2 * p->behind.n * sizeof(double));
        }
}

/* Of one look, about. */
static double flops(const struct path *path)
{
    double sum = 0;

    for (size_t k = 0; k < path->n; k++)
        sum += (4 * POWER + 4) * (double)path->part[k].stage->m * (double)path->part[k].stage->n;
    return sum;
}

/* From where t is, by smaller and smaller steps. What it comes to is kept if its product is less than *best. */
static void descend(struct path *path, const struct lip__limit *limit, double *best, bool *complete)
{
    size_t steps = limit ? lip__within(limit, 2 * flops(path), STEPS) : 0;
    double value = INFINITY;

    for (size_t k = 0; k < path->n; k++)
        for (size_t j = 0; j < path->part[k].stage->n; j++) /* no vector that a kernel would send to 0 by chance */
            path->part[k].v[j] = 1 + 0.3 * sin((double)(7 * j + 3 * k));
    for (size_t count = 0; count < steps; count++) {
        if (lip__late(limit->deadline)) {
            *complete = false;
            break;
        }
        if (!isfinite(look(path)))
            return;
        move(path, (int)count + 1, RATE * (1 - (double)count / (double)steps));
    }
    for (int count = 0; count < WARM; count++) /* power iteration says too little while its matrix changes */
        value = look(path);
    if (value < *best) {
        *best = value;
        keep(path);
    }
}

/* Adam at its beginning, no factors. */
static void clear(struct path *path)
{
    for (size_t k = 0; k < path->n; k++) {
        struct part *p = &path->part[k];

        if (p->behind.n) {
            memset(p->behind.t, 0, p->behind.n * sizeof(double));
            memset(p->behind.first, 0, 2 * p->behind.n * sizeof(double));
        }
    }
}

/* ---- proof ------------------------------------------------------------------------------------------------------ */

/* The largest norm of part k, scaled, and *off that its entries may be off by, in the Frobenius norm. INFINITY: no
 * time. */
static lip_err prove_part(struct path *path, size_t k, uint64_t deadline, double *upper, double *off, bool *complete,
                          lip_error *err)
{
    struct part *p = &path->part[k];
    const struct lip__stage *s = p->stage;
    lip_interval norm, reshaped;
    const char *method;
    bool whole;
    lip_err rc;

    scale(k ? p - 1 : NULL, p, true);
    if ((rc = lip__enclose_until(p->scaled, s->m, s->n, deadline, &reshaped, NULL, &whole, err)) != LIP_OK)
        return rc;
    *complete = *complete && whole;
    /* Factors are e^t and e^-t of real numbers, each computed to 2 roundings; two products more. */
    *off = 16 * LIP__U * lip__norm_up(p->scaled, s->m * s->n);
    norm = reshaped;
    if (s->kind != LIP__STAGE_MATRIX) {
        struct lip__convolution scaled = s->conv;

        scaled.kernel = p->scaled;
        if ((rc = lip__conv_enclose(&scaled, &reshaped, deadline, &norm, &method, &whole, err)) != LIP_OK)
            return rc;
        *complete = *complete && whole;
        *off *= lip__up(sqrt((double)lip__conv_coverage(&scaled)));
    }
    *upper = lip__up(norm.upper + *off);
    return LIP_OK;
}

/* base: how far the path's beginning moves. */
static lip_err prove(struct path *path, uint64_t deadline, double base, struct lip__head *head, double *upper,
                     bool *complete, lip_error *err)
{
    lip_err rc = LIP_OK;

    *upper = 1;
    for (size_t k = 0; !rc && k < path->n; k++) {
        const struct part *p = &path->part[k];
        double norm, off;

        rc = prove_part(path, k, lip__part_of(deadline, 1 / (double)(path->n - k)), &norm, &off, complete, err);
        if (!rc && head && p->stage == head->stage && isfinite(base))
            lip__head_sum(
                head,
                &(struct lip__term){
                    .rows = p->stage->m, .matrix = p->scaled, .off = off, .constant = lip__times_up(base, *upper)},
                1);
        if (!rc)
            *upper = lip__times_up(lip__times_up(*upper, norm), p->behind.gain);
    }
    return rc;
}

lip_err lip__rescaled(const struct lip__map *map, size_t stage, bool *covered, const struct lip__limit *limit,
                      const double *of, struct lip__head *head, size_t *from, double *upper, bool *complete,
                      lip_error *err)
{
    struct path path;
    bool any = false;
    lip_err rc = path_open(map, stage, covered, &path, err);

    *from = LIP__NOWHERE;
    *upper = INFINITY;
    *complete = true;
    for (size_t k = 0; k + 1 < path.n; k++)
        any |= path.part[k].behind.n > 0;
    if (!rc && any) {
        uint64_t deadline = limit ? limit->deadline : 0;
        const struct lip__limit half = {lip__part_of(deadline, 0.25), limit ? limit->flops : 0};
        double best = INFINITY;

        descend(&path, limit ? &half : NULL, &best, complete);
        clear(&path);
        balance(&path);
        descend(&path, limit ? &(struct lip__limit){lip__part_of(deadline, 0.3), half.flops} : NULL, &best, complete);
        rc = prove(&path, deadline, of[path.from], head, upper, complete, err);
        *from = path.from;
    }
    path_close(&path);
    return rc;
}
