/* slots.c: the regularizers and constraints of a model's variables, and of what its layers make.
 *
 * deel-lip and Keras let them see the raw variables, not the effective kernels (semantics.md 3.3).
 */
#include "model/slots.h"

#include <string.h>

static const struct lip__regularizer_class *regularizer_class(const struct lip__object *o)
{
    return (const struct lip__regularizer_class *)o->cls;
}

static const struct lip__constraint_class *constraint_class(const struct lip__object *o)
{
    return (const struct lip__constraint_class *)o->cls;
}

/* The step whose output is what a layer hands on, behind its activation. */
static bool is_last(const lip_model *m, size_t step)
{
    const struct lip__step *s = &m->step[step];

    return !s->turns && (step + 1 == m->n_steps || s[1].turns || s[1].top != s->top);
}

static const struct lip__object *activity_of(const lip_model *m, size_t step)
{
    return is_last(m, step) ? m->layer[m->step[step].top]->activity_regularizer : NULL;
}

static lip_shape batch_shape(const lip_model *m, size_t step, size_t n)
{
    const lip_layer *l = m->step[step].layer;
    lip_shape shape = {.rank = l->out.rank < LIP_MAX_RANK ? l->out.rank + 1 : LIP_MAX_RANK, .dim = {n}};

    for (size_t i = 0; i + 1 < shape.rank; i++)
        shape.dim[i + 1] = l->out.dim[i];
    return shape;
}

lip_err lip__slots_check(const lip_model *m, lip_error *err)
{
    lip_err rc = LIP_OK;

    for (size_t v = 0; v < m->n_variables && rc == LIP_OK; v++) {
        const struct lip__object *r = lip__declared_of(m, v)->regularizer, *c = lip__declared_of(m, v)->constraint;
        lip_error why = {0};
        if (r && regularizer_class(r)->check)
            rc = regularizer_class(r)->check(r, &m->variable[v].shape, &why);
        if (rc == LIP_OK && c && constraint_class(c)->check)
            rc = constraint_class(c)->check(c, &m->variable[v].shape, &why);
        if (rc != LIP_OK)
            lip__fail(err, rc, "%.100s: %.400s", m->variable[v].name, why.text);
    }
    return rc;
}

size_t lip__slots_scratch(const lip_model *m, size_t n)
{
    size_t most = 0, need;

    for (size_t v = 0; v < m->n_variables; v++) {
        const struct lip__object *r = lip__declared_of(m, v)->regularizer, *c = lip__declared_of(m, v)->constraint;
        need = r && regularizer_class(r)->scratch ? regularizer_class(r)->scratch(r, &m->variable[v].shape) : 0;
        most = need > most ? need : most;
        need = c && constraint_class(c)->scratch ? constraint_class(c)->scratch(c, &m->variable[v].shape) : 0;
        most = need > most ? need : most;
    }
    for (size_t s = 0; s < m->n_steps; s++) {
        const struct lip__object *r = activity_of(m, s);
        lip_shape shape = batch_shape(m, s, n);
        need = r && regularizer_class(r)->scratch ? regularizer_class(r)->scratch(r, &shape) : 0;
        most = need > most ? need : most;
    }
    return lip__round(most);
}

double lip__slots_penalty(const lip_model *m, const float *arena, float *gradient, float *scratch)
{
    double sum = 0;

    for (size_t v = 0; v < m->n_variables; v++) {
        const lip_variable *var = &m->variable[v];
        const struct lip__object *r = lip__declared_of(m, v)->regularizer;
        if (r)
            sum += regularizer_class(r)->value(r, &var->shape, arena + m->offset[v], 1,
                                               gradient && var->trainable ? gradient + m->offset[v] : NULL, scratch);
    }
    return sum;
}

bool lip__slots_activity(const lip_model *m, size_t step)
{
    return activity_of(m, step) != NULL;
}

double lip__slots_activity_penalty(const lip_model *m, size_t step, size_t n, const float *y, float *dy, float *scratch)
{
    const struct lip__object *r = activity_of(m, step);
    lip_shape shape = batch_shape(m, step, n);

    return r ? regularizer_class(r)->value(r, &shape, y, 1 / (double)n, dy, scratch) / (double)n : 0;
}

bool lip__slots_constrained(const lip_model *m)
{
    for (size_t v = 0; v < m->n_variables; v++)
        if (lip__declared_of(m, v)->constraint && m->variable[v].trainable)
            return true;
    return false;
}

lip_err lip__slots_constrain(const lip_model *m, float *arena, float *scratch, lip_error *err)
{
    for (size_t v = 0; v < m->n_variables; v++) {
        const lip_variable *var = &m->variable[v];
        const struct lip__object *c = lip__declared_of(m, v)->constraint;
        lip_err rc = c && var->trainable ? constraint_class(c)->apply(c, &var->shape, arena + m->offset[v], scratch, err) : LIP_OK;
        if (rc != LIP_OK)
            return rc;
    }
    return LIP_OK;
}
