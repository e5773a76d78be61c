/* What the calls refuse, and the memory they need: one `name value` a line. Also compiled as C++. */
#include <stdio.h>

#include "tsz_encoder.h"

static int write_bytes(void *user, const uint8_t *bytes, uint16_t count) {
    (void)user;
    (void)bytes;
    return count > 32;
}

int main(void) {
    static uint16_t memory[tsz_encoder_memory(3)];
    static const uint16_t columns[] = {3, 12, 25, 41};
    const int16_t row[3] = {1, 2, 3};
    tsz_encoder e;
    unsigned i;
    for (i = 0; i < 4; i++) {
        const size_t bytes = sizeof(tsz_encoder) + sizeof memory[0] * tsz_encoder_memory(columns[i]);
        printf("memory_%u %u\n", (unsigned)columns[i], (unsigned)bytes);
    }
    printf("null_encoder %d\n", tsz_encoder_init(NULL, memory, sizeof memory, 3, TSZ_DELTA, write_bytes, NULL));
    printf("null_memory %d\n", tsz_encoder_init(&e, NULL, sizeof memory, 3, TSZ_DELTA, write_bytes, NULL));
    printf("null_write %d\n", tsz_encoder_init(&e, memory, sizeof memory, 3, TSZ_DELTA, NULL, NULL));
    printf("no_columns %d\n", tsz_encoder_init(&e, memory, sizeof memory, 0, TSZ_DELTA, write_bytes, NULL));
    printf("many_columns %d\n", tsz_encoder_init(&e, memory, sizeof memory, 1025, TSZ_DELTA, write_bytes, NULL));
    printf("no_such_predictor %d\n", tsz_encoder_init(&e, memory, sizeof memory, 3, 2, write_bytes, NULL));
    printf("short_memory %d\n", tsz_encoder_init(&e, memory, sizeof memory - 1, 3, TSZ_DELTA, write_bytes, NULL));
    printf("init %d\n", tsz_encoder_init(&e, memory, sizeof memory, 3, TSZ_NLMS1, write_bytes, NULL));
    printf("null_checkpoints %d\n", tsz_encoder_checkpoints(NULL, 8));
    printf("checkpoints %d\n", tsz_encoder_checkpoints(&e, 8));
    printf("null_row %d\n", tsz_encoder_push(&e, NULL));
    printf("push_null %d\n", tsz_encoder_push(NULL, row));
    printf("push %d\n", tsz_encoder_push(&e, row));
    printf("finish_null %d\n", tsz_encoder_finish(NULL));
    printf("finish %d\n", tsz_encoder_finish(&e));
    printf("push_again %d\n", tsz_encoder_push(&e, row));
    printf("finish_again %d\n", tsz_encoder_finish(&e));
    return 0;
}
