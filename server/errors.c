/* errors.c: the one table from lip_err to HTTP. */
#include <stdarg.h>
#include <stdio.h>

#include "codec.h"

static const struct {
    int status;
    const char *code;
} table[LIP_ERR_COUNT] = {
    [LIP_OK] = {500, "internal"},
    [LIP_ENOMEM] = {503, "out_of_memory"},
    [LIP_EJSON] = {400, "bad_json"},
    [LIP_EDEFINITION] = {422, "bad_definition"},
    [LIP_ECLASS] = {422, "unknown_layer_class"},
    [LIP_EOPTION] = {422, "unknown_option"},
    [LIP_EUNSUPPORTED] = {501, "unsupported"},
    [LIP_ESHAPE] = {400, "shape_mismatch"},
    [LIP_ERANGE] = {400, "bad_parameter"},
    [LIP_EWEIGHTS] = {422, "bad_weights"},
    [LIP_ELABELS] = {422, "bad_labels"},
    [LIP_ENONFINITE] = {422, "nonfinite"},
    [LIP_EZERO] = {422, "zero_kernel"},
    [LIP_EFILE] = {422, "bad_file"},
    [LIP_EIO] = {500, "internal"},
    [LIP_ENUMERIC] = {500, "internal"},
    [LIP_EBOUND] = {422, "no_bound"},
};

void reply_lip_error(struct reply *rp, const lip_error *err, enum codec_about about, const char *prefix)
{
    lip_err e = err->code < LIP_ERR_COUNT ? err->code : LIP_OK;
    int status = table[e].status;
    const char *code = table[e].code, *text = err->text[0] ? err->text : lip_err_text(e);
    char pointer[512];
    json_t *extra = NULL;

    if (about == ABOUT_DEFINITION && (e == LIP_ESHAPE || e == LIP_ERANGE)) {
        status = 422;
        code = "bad_definition";
    } else if (about == ABOUT_WEIGHTS && (e == LIP_ESHAPE || e == LIP_ERANGE)) {
        status = 422;
        code = "bad_weights";
    }
    if (prefix) {
        snprintf(pointer, sizeof pointer, "%s%s", prefix, err->pointer);
        extra = json_pack("{s:[o]}", "errors", error_at(pointer, "%s", text));
    }
    if (status == 503)
        reply_header(rp, "Retry-After", "1");
    reply_error(rp, status, code, extra, "%s", text);
}

void reply_no_memory(struct reply *rp)
{
    reply_header(rp, "Retry-After", "1");
    reply_error(rp, 503, "out_of_memory", NULL, "out of memory");
}

void reply_at(struct reply *rp, int status, const char *code, const char *pointer, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    reply_error(rp, status, code, json_pack("{s:[o]}", "errors", error_at(pointer, "%s", text)), "%s", text);
}
