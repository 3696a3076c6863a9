/* check_attacks.c: points inside certified balls never change the answer that was certified, at any batch size and thread count.
 *
 * Samples are drawn, then drawn closer and closer to where an attack from outside found another answer, until the certified ball is
 * no larger than rounding. What is tried in each ball: towards that point, towards what another attack finds, near both, and
 * anywhere; always to the ball's very edge. ONELIP_ATTACKS is how many points are tried in all (`make attacks`: 100000).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check_main.h"
#include "models.h"
#include "served.h"

enum { POINTS = 256, WIDEST = 48, OUTPUTS = 8, TRIES = 16, CLOSER = 6 };

#define RELU                                                                                                           \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"relu\",\"layers\":["                                        \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,12],\"name\":\"x\"}},"                     \
    "{\"class_name\":\"Rescaling\",\"config\":{\"scale\":0.7,\"offset\":0.1,\"name\":\"r\"}},"                         \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":24,\"activation\":\"relu\",\"name\":\"d1\"}},"                    \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":16,\"activation\":\"tanh\",\"name\":\"d2\"}},"                    \
    "{\"class_name\":\"BatchNormalization\",\"config\":{\"name\":\"n\"}},"                                             \
    "{\"class_name\":\"Dense\",\"config\":{\"units\":4,\"name\":\"y\"}}]}}"

static const char *const models[] = {MLP, CNN, GRAPH, RELU};

static lip_random noise;

static size_t wanted(void)
{
    const char *text = getenv("ONELIP_ATTACKS");

    return text ? (size_t)strtoull(text, NULL, 10) : 4000;
}

/* Points to be answered, and the answers that they must have. */
struct pile {
    struct served *s;
    const lip_certifier *certifier;
    lip_certify_options options;
    size_t n;
    float x[POINTS * WIDEST];
    size_t answer[POINTS];
};

static void answers(struct pile *p, size_t first, size_t n, float *y)
{
    const float *x = p->x + first * p->s->in;
    lip_error err = {0};

    if (p->options.arithmetic == LIP_FLOAT32)
        OK(lip_predict(p->s->snapshot, p->s->ws, n, x, y, &err));
    else
        OK(lip_certify(p->certifier, p->s->ws, &p->options, n, x, NULL, &(lip_certificates){.y = y}, &err));
}

static void try_all(struct pile *p)
{
    static const size_t batches[] = {1, 7, POINTS};
    float y[POINTS * OUTPUTS];
    lip_error err = {0};

    for (size_t threads = 1; threads <= 3; threads++) {
        OK(lip_set_threads(threads, &err));
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
            for (size_t first = 0, n; first < p->n; first += n) {
                n = p->n - first < batches[b] ? p->n - first : batches[b];
                answers(p, first, n, y);
                for (size_t i = 0; i < n; i++)
                    ck_assert_msg(best_of(y + i * p->s->out, p->s->out) == p->answer[first + i],
                                  "%zu threads, batches of %zu: a point inside a certified ball is answered otherwise", threads,
                                  batches[b]);
            }
    }
    p->n = 0;
}

/* One point at the edge of a ball, `far` of the way along v or a little inside. */
static void add(struct pile *p, const float *x, const double *v, double radius, lip_norm norm, size_t answer)
{
    float *moved = p->x + p->n * p->s->in;

    move(x, v, p->s->in, radius, norm, moved);
    ck_assert_double_le(length_of(x, moved, p->s->in, norm), radius);
    p->answer[p->n++] = answer;
    if (p->n == POINTS)
        try_all(p);
}

/* Directions for an attack on x. */
static void aim(size_t n, size_t which, const float *x, const float *far, const float *near, double *v)
{
    double length = 0;

    for (size_t k = 0; k < n; k++) {
        v[k] = (double)(which % 2 ? near : far)[k] - x[k];
        length += v[k] * v[k];
    }
    length = sqrt(length / (double)n);
    for (size_t k = 0; k < n; k++) {
        float g;

        lip_random_normal(&noise, &g, 1);
        if (which >= TRIES / 2 || !isfinite(v[k])) /* anywhere */
            v[k] = g;
        else if (which >= 2)
            v[k] += g * length * pow(10, -(double)which / 2);
    }
}

/* One certified ball from inside. Returns whether it is one. */
static bool attack(struct pile *p, const lip_certifier *c, lip_norm norm, const float *x, const float *far)
{
    float y[OUTPUTS], near[WIDEST];
    double radius, found, v[WIDEST];
    int64_t answer;
    lip_certify_options local = p->options;
    lip_error err = {0};

    local.local = true;
    OK(lip_certify(c, p->s->ws, &local, 1, x, NULL, &(lip_certificates){.y = y, .predicted = &answer, .radius = &radius}, &err));
    if (!(radius > 0))
        return false;
    OK(lip_attack(c, &p->options, 0, 1, x, &found, near, &err));
    ck_assert_double_ge(found, radius);
    for (size_t t = 0; t < TRIES; t++) {
        aim(p->s->in, t, x, far, near, v);
        add(p, x, v, radius, norm, (size_t)answer);
    }
    return true;
}

/* 4 models x 3 norms x 2 arithmetics. */
START_TEST(no_point_inside_a_ball_is_answered_otherwise)
{
    size_t goal = wanted() / 24 + 1, tried = 0, rounds = 0, tiny = 0;
    lip_norm norm = (lip_norm)(_i / 4 % 3);
    struct served s;
    static struct pile p;
    lip_certifier *c;
    lip_error err = {0};

    noise = (lip_random){.seed = 61, .stream = (uint64_t)_i};
    serve(&s, models[_i % 4], 1 + (uint64_t)_i);
    OK(lip_certifier_new(s.snapshot, &(lip_certifier_options){.norm = norm}, &c, &err));
    p = (struct pile){.s = &s, .certifier = c, .options = {.arithmetic = (lip_arithmetic)(_i / 12)}};
    while (tried < goal) {
        float start[WIDEST], x[WIDEST], far[WIDEST];
        double found;

        ck_assert_uint_lt(rounds++, 100 * goal); /* balls are no rarity */
        lip_random_normal(&noise, start, s.in);
        OK(lip_set_threads(1, &err));
        OK(lip_attack(c, &p.options, 0, 1, start, &found, far, &err));
        for (int closer = 0; closer < CLOSER; closer++) {
            double share = isfinite(found) ? 1 - pow(10, -closer) : 0;
            bool ball;

            for (size_t k = 0; k < s.in; k++)
                x[k] = (float)(start[k] + share * ((double)far[k] - start[k]));
            ball = attack(&p, c, norm, x, far);
            tried += ball ? TRIES : 0;
            tiny += ball && closer >= 3;
            if (!isfinite(found) || tried >= goal)
                break;
        }
    }
    try_all(&p);
    ck_assert(tiny > 0 || goal < 10 * TRIES); /* some balls had a thousandth of the first one's size and less */
    lip_certifier_free(c);
    stop(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("attacks");
    TCase *core = tcase_create("core");

    tcase_add_loop_test(core, no_point_inside_a_ball_is_answered_otherwise, 0, 24);
    suite_add_tcase(s, core);
    return s;
}

CHECK_MAIN(suite)
