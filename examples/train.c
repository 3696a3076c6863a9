/* train.c: a 1-Lipschitz classifier of two half moons, trained with deel-lip's HKR loss, saved with its weights. */
#include "example.h"

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "moons.safetensors";
    lip_model *model;
    lip_state *state;
    FILE *file;
    size_t size;
    void *bytes;

    MUST(lip_model_read(definition, strlen(definition), true, &model, &err));
    state = trained(model, 500);
    bytes = lip_state_save(state, &size); /* the definition is inside */
    file = fopen(path, "wb");
    if (!bytes || !file || fwrite(bytes, 1, size, file) != size || fclose(file)) {
        perror(path);
        return 1;
    }
    printf("%s: %zu bytes\n", path, size);
    lip_free(bytes);
    lip_state_free(state);
    lip_model_put(model);
    return 0;
}
