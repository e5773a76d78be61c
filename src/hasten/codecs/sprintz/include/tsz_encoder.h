/* tsz_encoder.h: compress the rows of a sensor on a microcontroller, losslessly and as they come.
 *
 * C99, one header, no malloc, no division, no floating point, no recursion, no operating system. A stream of 16-bit
 * rows is read back by hasten (hasten.codecs.sprintz.device.decode). Use:
 *
 *     static uint16_t memory[tsz_encoder_memory(3)];
 *     static tsz_encoder encoder;
 *     tsz_encoder_init(&encoder, memory, sizeof memory, 3, TSZ_NLMS1, write, NULL);
 *     tsz_encoder_push(&encoder, row);                     once for each row of 3 values
 *     tsz_encoder_finish(&encoder);
 *
 * Bytes leave through `write`, at most 32 at a time. Seven pushes out of eight only copy the row; the eighth encodes
 * the block. Memory: tsz_encoder_memory(columns) * 2 bytes = 22 for each column, and sizeof(tsz_encoder): 68 bytes with
 * 32-bit pointers, 80 with 64-bit ones.
 *
 * A write that fails costs rows, not the stream: they are counted as lost, the call returns TSZ_ERROR_WRITE, and the
 * next block starts a segment that decodes without what was lost. So do damaged or lost bytes on the way: a segment
 * ends after 256 blocks (tsz_encoder_checkpoints changes that), has a checksum, and the next one starts with all that a
 * decoder has to know.
 *
 * The format is described in hasten's documentation ("Device streams").
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TSZ_ENCODER_H
#define TSZ_ENCODER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TSZ_ENCODER_VERSION 1
#define TSZ_ENCODER_MAX_COLUMNS 1024
#define TSZ_ENCODER_CHECKPOINT 256 /* blocks in a segment, unless the caller says otherwise */

/* How many uint16_t the encoder needs for so many columns: a block of 8 rows, and 3 words of state. */
#define tsz_encoder_memory(columns) ((size_t)(columns)*11u)

/* How a value is predicted from those before it in its column. */
enum {
    TSZ_DELTA = 0, /* by the last value: fastest */
    TSZ_NLMS1 = 1  /* by the last value and a learned share of the last step: smaller for smooth signals */
};

/* What the functions return. */
enum {
    TSZ_OK = 0,
    TSZ_ERROR_ARGUMENT = -1, /* a null pointer, columns not in 1..1024, or no such predictor */
    TSZ_ERROR_MEMORY = -2,   /* the memory is too small for so many columns */
    TSZ_ERROR_WRITE = -3,    /* `write` failed: the last rows are lost, later ones need not be */
    TSZ_ERROR_FINISHED = -4  /* the stream is finished */
};

/* Takes `count` bytes, all of them, and returns 0; anything else is a failure. It must not call the encoder. */
typedef int (*tsz_write)(void *user, const uint8_t *bytes, uint16_t count);

/* All fields are the encoder's own. */
typedef struct {
    tsz_write write;
    void *user;
    uint16_t *memory;    /* column after column 8 values; then column after column p, q, a */
    uint32_t rows;       /* rows in complete blocks since the start, modulo 2^32; lost ones too */
    uint32_t crc;        /* of the segment so far, not inverted */
    uint16_t columns;
    uint16_t checkpoint; /* blocks in a segment; 0: no end */
    uint16_t blocks;     /* of this segment, up to `checkpoint` */
    uint8_t predictor;
    uint8_t fill;        /* rows of the current block, 0..7 */
    uint8_t run;         /* blocks of zeros not yet written */
    uint8_t open;        /* the head of this segment is written */
    uint8_t failed;      /* a write of this call has failed */
    uint8_t finished;
    uint8_t used;        /* bytes in `buffer` */
    uint8_t buffer[32];
} tsz_encoder;

/* The promise: less than 1 KB of RAM for 25 columns (negative size otherwise). */
typedef char tsz_encoder_is_below_1_kb[sizeof(tsz_encoder) + 2u * tsz_encoder_memory(25) < 1024u ? 1 : -1];

/* ---------------------------------------------------------------- bytes out */

/* Called from many places, and large when it is copied into each of them. */
#if defined(__GNUC__)
#define TSZ__ONCE static __attribute__((noinline, unused))
#else
#define TSZ__ONCE static inline
#endif

static inline void tsz__flush(tsz_encoder *e) {
    if (e->used != 0u && !e->failed && e->write(e->user, e->buffer, e->used) != 0) e->failed = 1u;
    e->used = 0u;
}

static inline void tsz__raw(tsz_encoder *e, uint8_t byte) {
    e->buffer[e->used] = byte;
    e->used = (uint8_t)(e->used + 1u);
    if (e->used == sizeof e->buffer) tsz__flush(e);
}

/* One byte, counted in the checksum: CRC-32 of zlib, PNG and Ethernet, a nibble at a time. */
TSZ__ONCE void tsz__put(tsz_encoder *e, uint8_t byte) {
    static const uint32_t table[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};
    uint32_t crc = e->crc ^ byte;
    crc = (crc >> 4) ^ table[crc & 15u];
    e->crc = (crc >> 4) ^ table[crc & 15u];
    tsz__raw(e, byte);
}

static inline void tsz__put16(tsz_encoder *e, uint16_t value) {
    tsz__put(e, (uint8_t)(value & 255u));
    tsz__put(e, (uint8_t)(value >> 8));
}

static inline void tsz__put32(tsz_encoder *e, uint32_t value) {
    tsz__put16(e, (uint16_t)(value & 0xFFFFu));
    tsz__put16(e, (uint16_t)(value >> 16));
}

/* The checksum so far. It does not count itself, so that the one of the segment goes on from the one of its head. */
static inline void tsz__put_crc(tsz_encoder *e) {
    uint32_t crc = ~e->crc;
    unsigned i;
    for (i = 0; i < 4u; i++, crc >>= 8) tsz__raw(e, (uint8_t)(crc & 255u));
}

/* The end of every call: all bytes are out, or the segment is given up. */
static inline int tsz__done(tsz_encoder *e) {
    tsz__flush(e);
    if (!e->failed) return TSZ_OK;
    e->failed = 0u;
    e->open = 0u;
    e->run = 0u;
    return TSZ_ERROR_WRITE;
}

/* ---------------------------------------------------------------- prediction */

/* The residuals of one column's block take the place of its values, zigzagged: 0, -1, 1, -2 become 0, 1, 2, 3.
 * All is modulo 2^16. state: p the last value, q the last step, a the learned share of q (Q15, in -2^14..2^15-1). */
static inline void tsz__predict(uint16_t *z, uint16_t *state, int learn) {
    const int32_t a = (int32_t)(state[2] ^ 0x8000u) - 32768; /* the signed value, without an implementation's say */
    uint16_t p = state[0], q = state[1];
    int32_t sum = a;
    unsigned i;
    for (i = 0; i < 8u; i++) {
        const uint16_t step = (uint16_t)(z[i] - p);
        uint16_t r = step;
        p = z[i];
        if (learn) {
            /* floor((a q + 2^14) / 2^15): 2^30 keeps the shifted number positive, and its 2^15 goes away again */
            const int32_t product = a * ((int32_t)(q ^ 0x8000u) - 32768);
            r = (uint16_t)(r - (((uint32_t)(product + 16384) + 0x40000000u) >> 15) + 32768u);
            if (r != 0u && q != 0u) sum += ((r ^ q) & 0x8000u) ? -128 : 128;
            q = step;
        }
        z[i] = (uint16_t)((uint16_t)(r << 1) ^ ((r & 0x8000u) ? 0xFFFFu : 0u));
    }
    if (sum > 32767) sum = 32767;
    if (sum < -16384) sum = -16384;
    state[0] = p;
    state[1] = q;
    state[2] = (uint16_t)((uint32_t)sum & 0xFFFFu);
}

/* Bits that the largest of 8 residuals needs, 0..16. */
static inline uint8_t tsz__width(const uint16_t *z) {
    uint16_t all = (uint16_t)(z[0] | z[1] | z[2] | z[3] | z[4] | z[5] | z[6] | z[7]);
    uint8_t width = 0u;
    for (; all != 0u; all = (uint16_t)(all >> 1)) width = (uint8_t)(width + 1u);
    return width;
}

/* ---------------------------------------------------------------- the parts of a stream */

static inline void tsz__put_head(tsz_encoder *e) {
    static const uint8_t start[10] = {0x89, 'T', 'S', 'Z', 'D', '\r', '\n', 0x1A, TSZ_ENCODER_VERSION, 16};
    const uint16_t *state = e->memory + 8u * (size_t)e->columns;
    const size_t words = 3u * (size_t)e->columns;
    uint16_t any = 0u;
    size_t i;
    e->crc = 0xFFFFFFFFu;
    for (i = 0; i < words; i++) any = (uint16_t)(any | state[i]);
    for (i = 0; i < sizeof start; i++) tsz__put(e, start[i]);
    tsz__put(e, e->predictor);
    tsz__put(e, any != 0u); /* flag: the state follows */
    tsz__put16(e, e->columns);
    tsz__put32(e, e->rows);
    for (i = 0; any != 0u && i < words; i += e->predictor == TSZ_NLMS1 ? 1u : 3u) tsz__put16(e, state[i]);
    tsz__put_crc(e);
    e->open = 1u;
    e->blocks = 0u;
}

static inline void tsz__put_run(tsz_encoder *e) {
    if (e->run == 0u) return;
    tsz__put(e, 3u);
    tsz__put(e, e->run);
    e->run = 0u;
}

/* Kind and widths, a nibble each, low one first; then for each column `width` bytes, values LSB first. */
static inline void tsz__put_block(tsz_encoder *e, int wide) {
    const uint16_t *z = e->memory;
    uint8_t byte = wide ? 2u : 1u;
    uint16_t c;
    for (c = 0; c < e->columns; c++) {
        uint8_t width = tsz__width(z + 8u * (size_t)c);
        if (width == 16u) width = 15u;
        if (c & 1u) {
            byte = width;
        } else {
            tsz__put(e, (uint8_t)(byte | (width << 4)));
            byte = 0u;
        }
    }
    if (!(e->columns & 1u)) tsz__put(e, byte);
    for (c = 0; c < e->columns; c++, z += 8) {
        uint8_t width = tsz__width(z), bits = 0u, i;
        uint32_t pending = 0u;
        if (wide && width == 15u) width = 16u;
        for (i = 0; i < 8u; i++) {
            pending |= (uint32_t)z[i] << bits;
            for (bits = (uint8_t)(bits + width); bits >= 8u; bits = (uint8_t)(bits - 8u), pending >>= 8) {
                tsz__put(e, (uint8_t)(pending & 255u));
            }
        }
    }
}

/* The block in memory is complete. */
static inline int tsz__block(tsz_encoder *e) {
    uint16_t *state = e->memory + 8u * (size_t)e->columns;
    uint8_t top = 0u;
    uint16_t c;
    if (!e->open) tsz__put_head(e);
    for (c = 0; c < e->columns; c++, state += 3) {
        uint16_t *z = e->memory + 8u * (size_t)c;
        uint8_t width;
        tsz__predict(z, state, e->predictor == TSZ_NLMS1);
        width = tsz__width(z);
        if (width > top) top = width;
    }
    e->fill = 0u;
    e->rows += 8u;
    if (top == 0u) {
        e->run = (uint8_t)(e->run + 1u);
        if (e->run == 255u) tsz__put_run(e);
    } else {
        tsz__put_run(e);
        tsz__put_block(e, top == 16u);
    }
    if (e->checkpoint != 0u) {
        e->blocks = (uint16_t)(e->blocks + 1u);
        if (e->blocks >= e->checkpoint) {
            tsz__put_run(e);
            tsz__put(e, 4u);
            tsz__put32(e, e->rows);
            tsz__put_crc(e);
            e->open = 0u;
        }
    }
    return tsz__done(e);
}

/* ---------------------------------------------------------------- what you call */

/* Start a stream. `memory_size` is in bytes (sizeof of an array of tsz_encoder_memory(columns) uint16_t). The memory is
 * the encoder's until the end. Nothing is written yet. */
static inline int tsz_encoder_init(tsz_encoder *e, uint16_t *memory, size_t memory_size, uint16_t columns,
                                   int predictor, tsz_write write, void *user) {
    size_t i;
    if (e == NULL || memory == NULL || write == NULL) return TSZ_ERROR_ARGUMENT;
    if (columns == 0u || columns > TSZ_ENCODER_MAX_COLUMNS) return TSZ_ERROR_ARGUMENT;
    if (predictor != TSZ_DELTA && predictor != TSZ_NLMS1) return TSZ_ERROR_ARGUMENT;
    if (memory_size < tsz_encoder_memory(columns) * sizeof memory[0]) return TSZ_ERROR_MEMORY;
    for (i = 0; i < tsz_encoder_memory(columns); i++) memory[i] = 0u;
    e->write = write;
    e->user = user;
    e->memory = memory;
    e->rows = 0u;
    e->crc = 0u;
    e->columns = columns;
    e->checkpoint = TSZ_ENCODER_CHECKPOINT;
    e->blocks = 0u;
    e->predictor = (uint8_t)predictor;
    e->fill = 0u;
    e->run = 0u;
    e->open = 0u;
    e->failed = 0u;
    e->finished = 0u;
    e->used = 0u;
    return TSZ_OK;
}

/* Close a segment after so many blocks of 8 rows, from now on; 0: never, which saves a few bytes and leaves damage
 * without a way round it. */
static inline int tsz_encoder_checkpoints(tsz_encoder *e, uint16_t blocks) {
    if (e == NULL) return TSZ_ERROR_ARGUMENT;
    e->checkpoint = blocks;
    return TSZ_OK;
}

/* Take the next row: one value for each column. */
static inline int tsz_encoder_push(tsz_encoder *e, const int16_t *row) {
    uint16_t *place;
    uint16_t c;
    if (e == NULL || row == NULL) return TSZ_ERROR_ARGUMENT;
    if (e->finished) return TSZ_ERROR_FINISHED;
    place = e->memory + e->fill;
    for (c = 0; c < e->columns; c++, place += 8) *place = (uint16_t)row[c];
    e->fill = (uint8_t)(e->fill + 1u);
    return e->fill < 8u ? TSZ_OK : tsz__block(e);
}

/* Write what is left, and the end. After TSZ_ERROR_WRITE it can be called again. */
static inline int tsz_encoder_finish(tsz_encoder *e) {
    uint16_t c;
    uint8_t r;
    int status;
    if (e == NULL) return TSZ_ERROR_ARGUMENT;
    if (e->finished) return TSZ_ERROR_FINISHED;
    if (!e->open) tsz__put_head(e);
    tsz__put_run(e);
    tsz__put(e, (uint8_t)(5u | (unsigned)(e->fill << 4)));
    for (r = 0; r < e->fill; r++) {
        for (c = 0; c < e->columns; c++) tsz__put16(e, e->memory[8u * (size_t)c + r]);
    }
    tsz__put32(e, e->rows + e->fill);
    tsz__put_crc(e);
    status = tsz__done(e);
    if (status == TSZ_OK) e->finished = 1u;
    return status;
}

#ifdef __cplusplus
}
#endif

#endif
