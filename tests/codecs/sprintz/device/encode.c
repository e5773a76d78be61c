/* Rows from stdin (int16, little-endian), the stream to stdout, what each failed call returned to stderr.
 * Arguments: columns, predictor (0 or 1), blocks between checkpoints, then the numbers of the writes that fail. */
#include <stdio.h>
#include <stdlib.h>

#include "tsz_encoder.h"

typedef struct {
    long calls;
    char **fail;
    int fails;
} link_t;

static int write_bytes(void *user, const uint8_t *bytes, uint16_t count) {
    link_t *link = (link_t *)user;
    const long call = link->calls++;
    int i;
    if (count == 0 || count > 32) exit(3);
    for (i = 0; i < link->fails; i++) {
        if (atol(link->fail[i]) == call) {
            (void)fwrite(bytes, 1, count / 2u, stdout); /* part of it went out before the link broke */
            return 1;
        }
    }
    return fwrite(bytes, 1, count, stdout) == count ? 0 : 1;
}

int main(int argc, char **argv) {
    static uint16_t memory[tsz_encoder_memory(TSZ_ENCODER_MAX_COLUMNS)];
    static uint8_t bytes[2 * TSZ_ENCODER_MAX_COLUMNS];
    static int16_t row[TSZ_ENCODER_MAX_COLUMNS];
    tsz_encoder encoder;
    link_t link = {0, argv + 4, argc - 4};
    uint16_t columns;
    int i, status, tries;
    if (argc < 4) return 2;
    columns = (uint16_t)atoi(argv[1]);
    status = tsz_encoder_init(&encoder, memory, 2u * tsz_encoder_memory(columns), columns, atoi(argv[2]), write_bytes,
                              &link);
    if (status != TSZ_OK) return 2;
    (void)tsz_encoder_checkpoints(&encoder, (uint16_t)atoi(argv[3]));
    while (fread(bytes, 2, columns, stdin) == columns) {
        for (i = 0; i < columns; i++) row[i] = (int16_t)(bytes[2 * i] | (int16_t)((int8_t)bytes[2 * i + 1] * 256));
        status = tsz_encoder_push(&encoder, row);
        if (status != TSZ_OK) fprintf(stderr, "push %d\n", status);
    }
    for (tries = 0; tries < 5; tries++) {
        status = tsz_encoder_finish(&encoder);
        if (status == TSZ_OK) break;
        fprintf(stderr, "finish %d\n", status);
    }
    if (status == TSZ_OK && tsz_encoder_push(&encoder, row) != TSZ_ERROR_FINISHED) return 4;
    return 0;
}
