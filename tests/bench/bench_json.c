/* bench_json.c: reading and writing the numbers of tensors as JSON. Ends with 1 when 800 KB of them are read too slowly. */
#include <onelip/onelip.h>

#include "bench.h"
#include "json_scan.h"
#include "text.h"
#include "values.h"

struct body {
    char *text;
    size_t bytes;
    lip_shape shape;
    size_t count;
    float *x;
};

/* What a client sends for n samples of 784 numbers with these digits; nested: a list for each sample. */
static void make(struct body *b, size_t n, const char *format, int nested)
{
    FILE *out = open_memstream(&b->text, &b->bytes);
    unsigned seed = 1;

    if (!out)
        exit(1);
    b->shape = (lip_shape){.rank = 2, .dim = {n, 784}};
    b->count = n * 784;
    fprintf(out, "{\"inputs\":[{\"name\":\"x\",\"shape\":[%zu,784],\"datatype\":\"FP32\",\"data\":[", n);
    for (size_t i = 0; i < b->count; i++) {
        seed = seed * 1664525u + 1013904223u;
        if (nested && i % 784 == 0)
            fputs(i ? "],[" : "[", out);
        else if (i)
            fputc(',', out);
        fprintf(out, format, (double)(seed >> 8) / 16777216.0);
    }
    fputs(nested ? "]]}]}" : "]}]}", out);
    fclose(out);
    if (!(b->x = malloc(b->count * sizeof *b->x)))
        exit(1);
}

static void read_body(void *ctx)
{
    struct body *b = ctx;
    struct json_spans spans = {.shared = true};
    char why[200];
    json_t *json = json_scan(b->text, b->bytes, &spans, why, sizeof why);

    if (!json || spans.n != 1 ||
        values_from_json(CODEC_FP32, &b->shape, b->count, spans.span[0].at, spans.span[0].at + spans.span[0].bytes, b->x, why,
                         sizeof why))
        exit(1);
    json_decref(json);
}

static void write_body(void *ctx)
{
    struct body *b = ctx;
    struct text t = {0};

    text_floats(&t, b->x, b->count);
    if (t.failed)
        exit(1);
    free(t.bytes);
}

int main(void)
{
    static const struct {
        const char *name, *format;
        size_t n;
        int nested;
        double wanted; /* MB/s */
    } cases[] = {{"1 sample, 9 digits", "%.9g", 1, 0, 0},      {"85 samples, 9 digits", "%.9g", 85, 0, 600},
                 {"85 samples, nested", "%.9g", 85, 1, 600},   {"50 samples, 17 digits", "%.17g", 50, 0, 600},
                 {"160 samples, 3 digits", "%.3g", 160, 0, 0}};
    int status = 0;

    bench_cpu();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct body b = {0};
        double ns, rate;

        make(&b, cases[i].n, cases[i].format, cases[i].nested);
        ns = bench_median(read_body, &b);
        rate = (double)b.bytes / ns * 1e3;
        status |= rate < cases[i].wanted;
        printf("read  %-24s %8zu bytes %8.1f us %6.1f ns a number %7.0f MB/s%s\n", cases[i].name, b.bytes, ns / 1e3,
               ns / (double)b.count, rate, rate < cases[i].wanted ? "  MISSED: 600 are wanted" : "");
        ns = bench_median(write_body, &b);
        printf("write %-24s %33.1f ns a number\n", cases[i].name, ns / (double)b.count);
        free(b.text);
        free(b.x);
    }
    return status;
}
