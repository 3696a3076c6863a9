/* family.h: rows of field tables that several families share, in Keras's order of emission. */
#ifndef LIP_FAMILY_H
#define LIP_FAMILY_H

#include <math.h>
#include <stdint.h>

#include "layers/layer.h"
#include "layers/slots.h"
#include "tensor/im2col.h"

#define LIP__SLOT_FIELD {"activation", LIP__ACTIVATION, LIP__FIELD(lip_layer, activation), .def = NAN}

#define LIP__SLOT_OBJECT(member, of_) \
    {.name = #member, .type = LIP__OBJECT, .offset = LIP__FIELD(lip_layer, member), .def = NAN, .of = of_}

/* kernel and bias: their initializers (indices into lip__initializers), then the five slots. */
#define LIP__KERNEL_FIELDS(struct_, kernel_default)                                                                     \
    {"kernel_initializer", LIP__OBJECT, LIP__FIELD(struct_, kernel_initializer), .def = (kernel_default),               \
     .of = lip__initializers},                                                                                          \
        {"bias_initializer", LIP__OBJECT, LIP__FIELD(struct_, bias_initializer), .def = LIP__ZEROS,                     \
         .of = lip__initializers},                                                                                      \
        LIP__SLOT_OBJECT(kernel_regularizer, lip__regularizers), LIP__SLOT_OBJECT(bias_regularizer, lip__regularizers), \
        LIP__SLOT_OBJECT(activity_regularizer, lip__regularizers), LIP__SLOT_OBJECT(kernel_constraint, lip__constraints), \
        LIP__SLOT_OBJECT(bias_constraint, lip__constraints)

/* A proven constant computed with a few roundings, moved up past them. */
#define LIP__UP(x) ((x) * (1 + 0x1p-48))

enum { LIP__SPECTRAL_INITIALIZER = 0, LIP__GLOROT_UNIFORM = 1, LIP__ZEROS = 2, LIP__ONES = 3 };

#define LIP__K_FIELD {"k_coef_lip", LIP__FLOAT, LIP__FIELD(lip_layer, k), .def = 1, .min = 0, .max = INFINITY}

/* A factor of the layer's own, in place of the one that its shapes give: lip_model_with_coef. */
#define LIP__COEF_FIELD                                                                                                 \
    {"coef_lip", LIP__FLOAT, LIP__FIELD(lip_layer, own_coef), .def = 0, .min = 0, .max = INFINITY, .flags = LIP__NOT_KERAS}

#define LIP__RKO_FIELDS(struct_)                                                                                        \
    {"eps_spectral", LIP__FLOAT, LIP__FIELD(struct_, rko.eps_spectral), .def = 1e-3, .min = 0, .max = INFINITY,         \
     .flags = LIP__OPEN_MIN},                                                                                           \
        {"eps_bjorck", LIP__FLOAT, LIP__FIELD(struct_, rko.eps_bjorck), .def = 1e-3, .min = 0, .max = INFINITY,         \
         .flags = LIP__OPEN_MIN | LIP__NONE_OK},                                                                        \
        {"beta_bjorck", LIP__FLOAT, LIP__FIELD(struct_, rko.beta_bjorck), .def = 0.5, .min = 0, .max = 0.5,             \
         .flags = LIP__OPEN_MIN | LIP__NONE_OK},                                                                        \
        {"maxiter_spectral", LIP__INT, LIP__FIELD(struct_, rko.maxiter_spectral), .def = 10, .min = -1e6, .max = 1e6},  \
    {                                                                                                                   \
        "maxiter_bjorck", LIP__INT, LIP__FIELD(struct_, rko.maxiter_bjorck), .def = 15, .min = -1e6, .max = 1e6         \
    }

#define LIP__CONV_FIELDS(choices_of_padding, kernel_default)                                                                     \
    {"filters", LIP__INT, LIP__FIELD(lip__conv, filters), .def = NAN, .min = 1, .max = INT32_MAX},                          \
        {"kernel_size", LIP__PAIR, LIP__FIELD(lip__conv, kernel), .def = NAN, .min = 1, .max = UINT16_MAX},                 \
        {"strides", LIP__PAIR, LIP__FIELD(lip__conv, strides), .def = 1, .min = 1, .max = INT32_MAX},                       \
        {"padding", LIP__CHOICE, LIP__FIELD(lip__conv, padding), .choices = (choices_of_padding), .flags = LIP__ANY_CASE},  \
        {"data_format", LIP__CHOICE, LIP__FIELD(lip__conv, data_format), .choices = "channels_last|channels_first"},        \
        {"dilation_rate", LIP__PAIR, LIP__FIELD(lip__conv, dilation), .def = 1, .min = 1, .max = INT32_MAX},                \
        {"groups", LIP__INT, LIP__FIELD(lip__conv, groups), .def = 1, .min = 1, .max = INT32_MAX}, LIP__SLOT_FIELD,         \
        {"use_bias", LIP__BOOL, LIP__FIELD(lip__conv, use_bias), .def = 1}, LIP__KERNEL_FIELDS(lip__conv, kernel_default)

/* What many kinds are: a constant of 1; a copy, forward and backward. */
double lip__one(const lip_layer *layer);
void lip__copy_forward(const lip_layer *layer, const struct lip__pass *pass, const float *x, float *y);
void lip__copy_backward(const lip_layer *layer, const struct lip__pass *pass, const float *x, const float *y, const float *dy,
                        float *dx);

/* kind->check of Conv2D and its relatives: filters, kernel_size, strides, groups, dilation_rate; _constrained: and what deel-lip
 * refuses, which is wrong, not merely missing here. lip__groups_check: that groups divides the channels, once they are known. */
lip_err lip__conv_check(lip_layer *layer, lip_error *err);
lip_err lip__conv_check_constrained(lip_layer *layer, lip_error *err);
lip_err lip__groups_check(const lip_layer *layer, lip_error *err);

/* lip__conv_set_coefficient: coef of a constrained convolution (or its transpose) of h x w pixels, as the model wants it; else
 * LIP_ESHAPE. */
lip_err lip__conv_set_coefficient(lip_layer *layer, size_t h, size_t w, lip_error *err);

/* Of PADDED kinds. lip__pad_windows: the windows of the padded image, 'same' ones where that is the padding.
 * lip__pad_source: the row or column of the image that stands at place i of the padded one; in->dim[axis] or more: zeros. */
struct lip__windows lip__pad_windows(const lip_layer *layer);
size_t lip__pad_source(const lip_layer *layer, int axis, size_t i);

/* lip__normalization_epsilon: what a BatchNormalization adds to its variance. */
double lip__normalization_epsilon(const lip_layer *layer);

/* lip__image_check: that a sample of the layer's input has three axes; else LIP_ESHAPE. */
lip_err lip__image_check(const lip_layer *layer, lip_error *err);

/* Declare what every kind with a kernel has: kernel, bias unless there is none; then u and sigma, wbar, as `reparam` says. */
void lip__declare_kernel(lip_layer *layer, const lip_shape *kernel, size_t outputs, bool use_bias,
                         const struct lip__object *kernel_initializer, const struct lip__object *bias_initializer);

#endif
