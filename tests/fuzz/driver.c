/* driver.c: calls a fuzz target without libFuzzer: every file of its corpus, then changed ones, the same in every run.
 *
 *     fuzz_x                          the corpus of the source tree, and 3,000 changed inputs; prints TAP
 *     fuzz_x [-n CHANGES] [-s SEED] FILE…    these files
 *
 * What crashes is in crash-<target>, in the working directory.
 */
#ifndef LIBFUZZER
#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

#define LARGEST 65536
#define FILES 4096

static struct {
    uint8_t *bytes;
    size_t size;
} input[FILES];
static size_t inputs;
static uint8_t current[LARGEST];
static size_t current_size;
static char crash_name[200];
static uint64_t state;

/* Source: Vigna, xorshift64*. */
static uint64_t draw(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1du >> 16;
}

static void on_crash(int number)
{
    FILE *out = fopen(crash_name, "wb");

    if (out) {
        fwrite(current, 1, current_size, out);
        fclose(out);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static void call(void)
{
    /* In memory of its own size, so that a reader beyond its end is seen. */
    uint8_t *copy = malloc(current_size ? current_size : 1);

    if (!copy)
        exit(1);
    memcpy(copy, current, current_size);
    LLVMFuzzerTestOneInput(copy, current_size);
    free(copy);
}

static void read_file(const char *path)
{
    FILE *in = fopen(path, "rb");
    uint8_t *bytes = malloc(LARGEST);

    if (!in || !bytes || inputs == FILES) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    input[inputs].size = fread(bytes, 1, LARGEST, in);
    input[inputs++].bytes = bytes;
    fclose(in);
}

static void read_folder(const char *path)
{
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        char file[800];
        snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            read_file(file);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
}

/* One change: a bit, a byte, an interesting number, a piece away, a piece twice, a piece of another input. */
static void change(void)
{
    static const char *const pieces[] = {"0", "-1", "1e999", "NaN", "[", "]", "{", "}", ",", "\"", "\\u0000", "\r\n", "%00", "/",
                                         "18446744073709551616", "2147483648", " ", ":", "\xff\xff\xff\xff", "\x00\x00\x00\x80"};
    size_t at = current_size ? draw() % current_size : 0, n;
    const char *piece;

    switch (draw() % 7) {
    case 0:
        if (current_size)
            current[at] ^= (uint8_t)(1u << draw() % 8);
        return;
    case 1:
        if (current_size)
            current[at] = (uint8_t)draw();
        return;
    case 2:
        n = current_size ? draw() % (current_size - at < 16 ? current_size - at + 1 : 16) : 0;
        memmove(current + at, current + at + n, current_size - at - n);
        current_size -= n;
        return;
    case 3:
        current_size = at;
        return;
    case 4: {
        size_t other = draw() % inputs, from = input[other].size ? draw() % input[other].size : 0;
        n = input[other].size - from;
        n = n > 64 ? draw() % 64 : n;
        if (current_size + n > LARGEST)
            return;
        memmove(current + at + n, current + at, current_size - at);
        memcpy(current + at, input[other].bytes + from, n);
        current_size += n;
        return;
    }
    default:
        piece = pieces[draw() % (sizeof pieces / sizeof *pieces)];
        n = *piece ? strlen(piece) : 4;
        if (current_size + n > LARGEST)
            return;
        memmove(current + at + n, current + at, current_size - at);
        memcpy(current + at, piece, n);
        current_size += n;
    }
}

int main(int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0], *source = getenv("srcdir");
    unsigned long changes = 3000;
    char folder[500];
    int option;

    state = 88172645463325252u;
    while ((option = getopt(argc, argv, "n:s:")) != -1) {
        if (option == 'n')
            changes = strtoul(optarg, NULL, 10);
        else if (option == 's')
            state = strtoul(optarg, NULL, 10) * 2 + 1;
        else
            return 2;
    }
    name = !strncmp(name, "lt-", 3) ? name + 3 : name;
    snprintf(crash_name, sizeof crash_name, "crash-%s", name);
    snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", source ? source : ".", name);
    if (optind == argc)
        read_folder(folder);
    for (; optind < argc; optind++)
        read_file(argv[optind]);
    if (!inputs) {
        printf("not ok 1 - %s has a corpus\n1..1\n", name);
        return 1;
    }
    signal(SIGABRT, on_crash);
    signal(SIGSEGV, on_crash);
    for (size_t i = 0; i < inputs; i++) {
        memcpy(current, input[i].bytes, current_size = input[i].size);
        call();
    }
    for (unsigned long i = 0; i < changes; i++) {
        size_t from = draw() % inputs;
        memcpy(current, input[from].bytes, current_size = input[from].size);
        for (uint64_t k = 1 + draw() % 6; k > 0; k--)
            change();
        call();
    }
    printf("ok 1 - %s: %zu inputs, %lu changed ones\n1..1\n", name, inputs, changes);
    for (size_t i = 0; i < inputs; i++)
        free(input[i].bytes);
    return 0;
}
#endif
