/* fuzz_files.c: files that somebody sends: npy, npz, IDX, safetensors, CSV, gzip. The first byte says how it is read. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <onelip/onelip.h>

#include "array.h"
#include "fuzz.h"
#include "npy.h"

static int folder(void)
{
    static int fd = -1;

    if (fd < 0)
        fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(fd >= 0);
    return fd;
}

/* Every byte of what was read can be touched. */
static void touch(const struct arrays *all)
{
    unsigned sum = 0;

    for (size_t i = 0; i < all->n; i++) {
        const struct array *a = &all->array[i];
        MUST(a->shape.rank <= LIP_MAX_RANK && lip_shape_count(&a->shape) * codec_type_size(a->type) == array_bytes(a));
        for (size_t k = 0; k < array_bytes(a); k++)
            sum += a->data[k];
    }
    MUST(sum < 0xffffffffu);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arrays all;
    struct array_room room = {.folder = folder(), .left = 1 << 20};
    struct failure f = {0};
    unsigned char *bytes = malloc(size + 1);
    size_t n = size ? size - 1 : 0;
    lip_safetensors *file = NULL;
    lip_error err = {0};
    lip_shape shape;
    float *x = NULL;
    char why[200] = "";

    MUST(bytes);
    memcpy(bytes, data + (size > 0), n);
    bytes[n] = '\0';
    switch (size ? data[0] % 4 : 0) {
    case 0:
    case 1:
        memset(&all, 0, sizeof all);
        if (arrays_read(bytes, n, data && size && data[0] % 4 == 1, "label", &room, &all, &f))
            touch(&all);
        else
            MUST(f.status >= 400 && f.text[0]);
        arrays_clear(&all);
        break;
    case 2:
        if (npy_read(bytes, n, &shape, &x, why, sizeof why)) {
            float sum = 0;
            for (size_t i = 0; i < lip_shape_count(&shape); i++)
                sum += x[i];
            (void)sum;
        } else {
            MUST(why[0]);
        }
        free(x);
        break;
    default:
        if (!lip_safetensors_read(bytes, n, &file, &err)) {
            for (size_t i = 0; i < lip_safetensors_count(file); i++)
                MUST(lip_safetensors_tensors(file)[i].name[0] || 1);
        } else {
            MUST(err.text[0]);
        }
        lip_safetensors_free(file);
    }
    free(bytes);
    return 0;
}
