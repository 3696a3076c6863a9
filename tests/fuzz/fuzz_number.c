/* fuzz_number.c: a number is read as strtof reads it, whatever follows, and written so that it reads back. */
#include <math.h>
#include <string.h>

#include "fuzz.h"
#include "number.h"

/* Whether text is a number of RFC 8259. */
static size_t json_number(const char *text)
{
    const char *at = text + (*text == '-');

    if (*at == '0')
        at++;
    else if (*at >= '1' && *at <= '9')
        at += strspn(at, "0123456789");
    else
        return 0;
    if (*at == '.') {
        size_t n = strspn(at + 1, "0123456789");
        if (!n)
            return 0;
        at += 1 + n;
    }
    if (*at == 'e' || *at == 'E') {
        const char *digits = at + 1 + (at[1] == '-' || at[1] == '+');
        size_t n = strspn(digits, "0123456789");
        if (!n)
            return 0;
        at = digits + n;
    }
    /* "01" is none, "0" in front of it is. number_read refuses both: nothing that is JSON goes on with a digit. */
    return *text && *at >= '0' && *at <= '9' ? 0 : (size_t)(at - text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 2), *doubled, written[NUMBER_MAX + 2];
    const char *end, *at;
    float x = 0, y, again = 0, row[3];
    size_t n, wanted;

    MUST(text);
    memcpy(text, data, size);
    memcpy(text + size, ",", 2);
    wanted = json_number(text);
    end = number_read(text, text + strlen(text), &x);
    MUST((end != NULL) == (wanted > 0));
    /* Alone behind a comma, and with itself behind it: read faster and alike. */
    MUST((doubled = malloc(2 * size + 32)));
    if (end && wanted == size && isfinite(x)) {
        n = (size_t)sprintf(doubled, ",%.*s,%.*s]                    ", (int)size, text, (int)size, text);
        at = doubled;
        MUST(number_read_more(&at, doubled + n, row, 3) == 2 && at == doubled + 2 * (size + 1));
        MUST(!memcmp(&row[0], &x, sizeof x) && !memcmp(&row[1], &x, sizeof x));
    }
    free(doubled);
    if (end) {
        MUST((size_t)(end - text) == wanted);
        text[wanted] = '\0';
        y = strtof(text, NULL);
        MUST(!memcmp(&x, &y, sizeof x));
    }
    if (size >= sizeof x && (memcpy(&x, data, sizeof x), isfinite(x))) {
        n = number_write(x, written);
        MUST(n <= NUMBER_MAX);
        memcpy(written + n, "]", 2);
        MUST(number_read(written, written + n + 1, &again) == written + n && !memcmp(&x, &again, sizeof x));
    }
    free(text);
    return 0;
}
