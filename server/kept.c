#include "kept.h"

#include <stdlib.h>
#include <string.h>

#include "text.h"

char *kept_text(const struct reply *rp)
{
    json_t *json, *headers = json_object();
    char *text = NULL;

    if (rp->stream.read) {
        json_decref(headers);
        return NULL;
    }
    for (size_t i = 0; i < rp->n_headers; i++)
        json_object_set_new(headers, rp->header[i].name, json_string(rp->header[i].value));
    json = json_pack("{s:i, s:o, s:s?, s:s?, s:O?}", "status", rp->status, "headers", headers, "type", rp->type, "code", rp->code,
                     "problem", rp->problem);
    if (json)
        text = document_text(json);
    json_decref(json);
    return text;
}

bool kept_reply(const char *text, const void *body, size_t size, struct reply *rp)
{
    json_t *json = json_loads(text, 0, NULL), *value;
    const char *type = json_string_value(json_object_get(json, "type")), *code = json_string_value(json_object_get(json, "code"));
    const char *name, *known;
    int status = (int)json_integer_value(json_object_get(json, "status"));
    void *copy = NULL;
    bool ok = status >= 100 && (!type || (type = text_forever(type))) && (!code || (code = text_forever(code))) &&
              (!size || (copy = malloc(size)));

    if (ok) {
        if (size)
            memcpy(copy, body, size);
        reply_bytes(rp, status, type, copy, size);
        rp->code = code;
        rp->problem = json_incref(json_object_get(json, "problem"));
        json_object_foreach(json_object_get(json, "headers"), name, value)
            if ((known = text_forever(name))) /* foreach itself needs the name as it is */
                reply_header(rp, known, "%s", json_string_value(value));
    }
    json_decref(json);
    return ok;
}
