/* error.c: codes to texts, and the one function that fills a lip_error. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>

const char *lip_err_text(lip_err code)
{
#define TEXT(name, text) text,
    static const char *const texts[] = {LIP_ERR_MAP(TEXT)};
#undef TEXT
    return (unsigned)code < LIP_ERR_COUNT ? texts[code] : "unknown error";
}

const char *lip_err_name(lip_err code)
{
#define NAME(name, text) #name,
    static const char *const names[] = {LIP_ERR_MAP(NAME)};
#undef NAME
    return (unsigned)code < LIP_ERR_COUNT ? names[code] : "LIP_EUNKNOWN";
}

/* The first text wins: whoever failed deepest knows most. */
static void write_first(lip_error *err, lip_err code, const char *pointer, const char *format, va_list args)
{
    if (!err || err->text[0])
        return;
    err->code = code;
    vsnprintf(err->text, sizeof err->text, format, args);
    snprintf(err->pointer, sizeof err->pointer, "%s", pointer);
}

lip_err lip__fail(lip_error *err, lip_err code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    write_first(err, code, "", format, args);
    va_end(args);
    return code;
}

lip_err lip__fail_at(lip_error *err, lip_err code, const char *pointer, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    write_first(err, code, pointer, format, args);
    va_end(args);
    return code;
}

lip_err lip__nomem(lip_error *err, size_t bytes)
{
    return lip__fail(err, LIP_ENOMEM, "out of memory: %zu bytes were wanted", bytes);
}
