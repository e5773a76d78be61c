/* A 3-axis accelerometer at 100 Hz, compressed as it is read; on a device, `write_bytes` sends to a radio or a flash.
 *
 *     include=$(python -c 'from hasten.codecs.sprintz import device; print(device.include_dir())')
 *     cc -std=c99 -I "$include" sensor.c -o sensor
 *     ./sensor > walk.tszd
 *     python -c "from hasten.codecs.sprintz import device; print(device.decode(open('walk.tszd', 'rb').read()).data)"
 */
#include <stdio.h>

#include "tsz_encoder.h"

#define AXES 3
#define ROWS 6000 /* a minute */

/* Stands in for the sensor: a swing on each axis, noise, and the weight of the thing on the third. */
static void read_sensor(int16_t row[AXES]) {
    static int32_t place[AXES] = {3000, 1000, 2000}, speed[AXES];
    static uint32_t noise = 1u;
    int axis;
    for (axis = 0; axis < AXES; axis++) {
        noise = noise * 1664525u + 1013904223u;
        speed[axis] -= place[axis] * (axis + 1) / 256;
        place[axis] += speed[axis];
        row[axis] = (int16_t)(place[axis] + (int32_t)(noise >> 28) - 8 + (axis == 2 ? 16384 : 0));
    }
}

/* Takes all bytes and returns 0, or something else if it cannot. */
static int write_bytes(void *user, const uint8_t *bytes, uint16_t count) {
    return fwrite(bytes, 1, count, (FILE *)user) == count ? 0 : 1;
}

int main(void) {
    static uint16_t memory[tsz_encoder_memory(AXES)];
    static tsz_encoder encoder;
    int16_t row[AXES];
    int i, lost = 0;

    if (tsz_encoder_init(&encoder, memory, sizeof memory, AXES, TSZ_NLMS1, write_bytes, stdout) != TSZ_OK) return 1;
    for (i = 0; i < ROWS; i++) {
        read_sensor(row);
        if (tsz_encoder_push(&encoder, row) != TSZ_OK) lost++; /* the encoder goes on with the next block */
    }
    if (tsz_encoder_finish(&encoder) != TSZ_OK) return 1;
    fprintf(stderr, "%d rows, %d writes failed, %u bytes of RAM\n", ROWS, lost,
            (unsigned)(sizeof encoder + sizeof memory));
    return 0;
}
