/* error.h: what can go wrong, for programs (a code) and for people (a text).
 *
 * Every function that can fail returns a lip_err and takes a lip_error * last; NULL if the code is
 * enough. The deepest function writes the text and the first text wins, so callers only pass codes up.
 */
#ifndef ONELIP_ERROR_H
#define ONELIP_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#define LIP_ERR_MAP(X)                                                          \
    X(LIP_OK, "no error")                                                       \
    X(LIP_ENOMEM, "out of memory")                                              \
    X(LIP_EJSON, "text is not valid JSON")                                      \
    X(LIP_EDEFINITION, "a value of the definition has the wrong type or range") \
    X(LIP_ECLASS, "unknown layer class")                                        \
    X(LIP_EOPTION, "unknown option or identifier")                              \
    X(LIP_EUNSUPPORTED, "not built in")                                         \
    X(LIP_ESHAPE, "shapes do not fit")                                          \
    X(LIP_ERANGE, "value outside its documented range")                         \
    X(LIP_EWEIGHTS, "weights do not fit the model")                             \
    X(LIP_ELABELS, "labels do not fit the loss")                                \
    X(LIP_ENONFINITE, "a number is NaN or infinite")                            \
    X(LIP_EZERO, "a kernel is zero where it must be normalised")                \
    X(LIP_EFILE, "file is damaged or of another format")                        \
    X(LIP_EIO, "input or output failed")                                        \
    X(LIP_ENUMERIC, "a numerical method failed")                                \
    X(LIP_EBOUND, "no rule bounds a layer")

#define LIP_ERR_ENUM(name, text) name,
typedef enum lip_err { LIP_ERR_MAP(LIP_ERR_ENUM) LIP_ERR_COUNT } lip_err;
#undef LIP_ERR_ENUM

typedef struct lip_error {
    lip_err code;      /* for programs */
    char text[640];    /* for people: what was found, what was wanted, where */
    char pointer[160]; /* JSON pointer into the document that was read, or "" */
} lip_error;

/* lip_err_text: the standing text of a code. Never NULL. Threads: safe. */
const char *lip_err_text(lip_err code);

/* lip_err_name: the code's own name, "LIP_ESHAPE". Never NULL. Threads: safe. */
const char *lip_err_name(lip_err code);

#ifdef __cplusplus
}
#endif
#endif
