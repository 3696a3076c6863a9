/* fuzz_infer.c: the body of an inference request: JSON, binary tensors behind JSON, raw. The first two bytes are the header
 * Inference-Header-Content-Length; 0xffff: there is none. */
#include <string.h>

#include "codec.h"
#include "fuzz.h"

static char framing[8];
static bool framed;

/* What http.c would say. */
const char *request_header(const struct request *rq, const char *name)
{
    (void)rq;
    return framed && !strcmp(name, "Inference-Header-Content-Length") ? framing : NULL;
}

const char *request_query(const struct request *rq, const char *name)
{
    (void)rq;
    (void)name;
    return NULL;
}

void request_query_each(const struct request *rq, void (*call)(void *ctx, const char *name, const char *value), void *ctx)
{
    (void)rq;
    (void)call;
    (void)ctx;
}

static lip_model *model(void)
{
    static const char text[] =
        "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":"
        "[null,4],\"name\":\"x\"}},{\"class_name\":\"Dense\",\"config\":{\"units\":2,\"name\":\"y\"}}]}}";
    static lip_model *made;
    lip_error err = {0};

    if (!made)
        MUST(!lip_model_read(text, sizeof text - 1, false, &made, &err));
    return made;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct request rq = {.method = "POST", .path = "/v2/models/m/infer", .id = "id"};
    struct codec_result result = {.name = "y", .type = CODEC_FP32};
    unsigned length = size >= 2 ? data[0] | (unsigned)data[1] << 8 : 0xffff;
    unsigned char *body;
    struct reply rp = {0};
    struct codec_body b;
    const float *x = NULL;
    float *owned = NULL;
    size_t n = 0, results = 1;

    framed = length != 0xffff;
    snprintf(framing, sizeof framing, "%u", length);
    rq.bytes = size >= 2 ? size - 2 : 0;
    MUST(body = malloc(rq.bytes + 1)); /* as http.c has it: a NUL behind */
    memcpy(body, data + (size >= 2 ? 2 : size), rq.bytes);
    body[rq.bytes] = '\0';
    rq.body = body;
    if (codec_read_body(&rq, "m", NULL, &b, &rp) && codec_inputs(&b, "m", model(), NULL, true, &n, &x, &owned, &rp) &&
        codec_choose(&b, "m", &result, &results, &rp)) {
        float sum = 0;
        MUST(!rp.status);
        for (size_t i = 0; i < 4 * n; i++)
            sum += x[i];
        result.shape = (lip_shape){.rank = 2, .dim = {n, 4}};
        result.data = x;
        codec_answer(&rp, "m", "1", b.id, b.parameters, NULL, &result, results);
        MUST(rp.status == 200 || rp.status == 503);
        (void)sum;
    } else {
        MUST(rp.status >= 400 && rp.code);
    }
    free(owned);
    codec_clear_body(&b);
    reply_clear(&rp);
    free(body);
    return 0;
}
