#include "kernels.h"

#include <string.h>

/* The driver of the kernels. Each lane holds one message, which is two runs of whole blocks: the message's own bytes
 * and a small edge (the padding of a whole message, or the block that a partial one has just filled). The kernel runs
 * as many blocks as the shortest run alive; lanes whose message ended are refilled from the queue. When the queue is
 * empty and few lanes are alive, their messages go on in a narrower kernel, chaining values and all. */

typedef struct {
    const uint8_t *data;
    size_t blocks;
} Run;

typedef struct {
    uint32_t h[8];
    Run run, next_run;
    size_t job;
    uint8_t edge[128];
} Message;

typedef struct {
    int algorithm;
    HashJob *jobs;      /* either whole messages */
    UpdateJob *updates; /* or more of partial ones */
    size_t n, next;
    Message **parked; /* begun in a wider kernel, taken first */
    unsigned parked_count;
} Queue;

static const uint32_t start_values[2][8] = {
    {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0, 0, 0, 0},
    {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
};

static int known(int algorithm)
{
    return algorithm == BTFAST_SHA1 || algorithm == BTFAST_SHA256;
}

static unsigned digest_words(int algorithm)
{
    return algorithm == BTFAST_SHA1 ? 5 : 8;
}

static void store_digest(int algorithm, const uint32_t *h, unsigned char *digest)
{
    for (unsigned i = 0; i < digest_words(algorithm); i++) {
        digest[4 * i] = (unsigned char)(h[i] >> 24);
        digest[4 * i + 1] = (unsigned char)(h[i] >> 16);
        digest[4 * i + 2] = (unsigned char)(h[i] >> 8);
        digest[4 * i + 3] = (unsigned char)h[i];
    }
}

/* FIPS 180-4, 5.1: the last `rest` bytes, a one bit, zeros, the length in bits. Returns the number of blocks. */
static size_t pad(uint8_t edge[128], const uint8_t *rest_bytes, size_t rest, uint64_t length)
{
    size_t blocks = rest < 56 ? 1 : 2;
    memset(edge, 0, 64 * blocks);
    if (rest)
        memcpy(edge, rest_bytes, rest);
    edge[rest] = 0x80;
    for (int i = 0; i < 8; i++)
        edge[64 * blocks - 1 - i] = (uint8_t)(length << 3 >> (8 * i));
    return blocks;
}

static void start_whole(Message *message, const HashJob *job, int algorithm)
{
    size_t rest = job->length % 64;
    memcpy(message->h, start_values[algorithm - 1], sizeof message->h);
    message->next_run.blocks = pad(message->edge, rest ? job->data + (job->length - rest) : NULL, rest, job->length);
    message->next_run.data = message->edge;
    message->run.data = job->data;
    message->run.blocks = job->length / 64;
}

/* Returns 0 when the new bytes fill no block: then all that is to do is done. */
static int start_partial(Message *message, const UpdateJob *job)
{
    HashState *state = job->state;
    size_t fill = state->length % 64, room = 64 - fill;
    if (job->length < room) {
        if (job->length)
            memcpy(state->partial + fill, job->data, job->length);
        state->length += job->length;
        return 0;
    }
    memcpy(message->h, state->h, sizeof message->h);
    memcpy(message->edge, state->partial, fill);
    memcpy(message->edge + fill, job->data, room);
    message->run.data = message->edge;
    message->run.blocks = 1;
    message->next_run.data = job->data + room;
    message->next_run.blocks = (job->length - room) / 64;
    return 1;
}

static void finish(const Queue *queue, const Message *message)
{
    if (queue->jobs) {
        store_digest(queue->algorithm, message->h, queue->jobs[message->job].digest);
        return;
    }
    const UpdateJob *job = &queue->updates[message->job];
    HashState *state = job->state;
    state->length += job->length;
    memcpy(state->h, message->h, sizeof state->h);
    memcpy(state->partial, job->data + (job->length - state->length % 64), state->length % 64);
}

static int waiting(const Queue *queue)
{
    return queue->parked_count > 0 || queue->next < queue->n;
}

/* The next message, in `own` unless it was begun elsewhere; NULL when there is none. */
static Message *take(Queue *queue, Message *own)
{
    if (queue->parked_count > 0)
        return queue->parked[--queue->parked_count];
    while (queue->next < queue->n) {
        own->job = queue->next++;
        if (queue->jobs)
            start_whole(own, &queue->jobs[own->job], queue->algorithm);
        else if (!start_partial(own, &queue->updates[own->job]))
            continue;
        return own;
    }
    return NULL;
}

static void load(const Engine *engine, uint32_t *state, unsigned lane, const Message *message)
{
    for (unsigned i = 0; i < 8; i++)
        state[i * engine->word_stride + lane * engine->lane_stride] = message->h[i];
}

static void store(const Engine *engine, const uint32_t *state, unsigned lane, Message *message)
{
    for (unsigned i = 0; i < 8; i++)
        message->h[i] = state[i * engine->word_stride + lane * engine->lane_stride];
}

static void drive(const Engine *engine, Queue *queue)
{
    _Alignas(64) uint32_t state[8 * BTFAST_MAX_LANES] = {0};
    Message own[BTFAST_MAX_LANES];
    Message *lanes[BTFAST_MAX_LANES] = {NULL};
    const unsigned width = engine->width;
    unsigned alive = 0;
    for (;;) {
        const uint8_t *data[BTFAST_MAX_LANES];
        const uint8_t *any = NULL;
        size_t blocks = SIZE_MAX;
        for (unsigned lane = 0; lane < width && alive < width && waiting(queue); lane++) {
            if (lanes[lane] || !(lanes[lane] = take(queue, &own[lane])))
                continue;
            load(engine, state, lane, lanes[lane]);
            alive++;
        }
        if (alive == 0)
            return;
        if (engine->narrow && alive <= engine->narrow_at && !waiting(queue))
            break;
        for (unsigned lane = 0; lane < width; lane++) {
            Message *message = lanes[lane];
            if (!message)
                continue;
            if (message->run.blocks == 0) {
                message->run = message->next_run;
                message->next_run.blocks = 0;
            }
            if (message->run.blocks < blocks)
                blocks = message->run.blocks;
            any = message->run.data;
        }
        /* A lane without a message works on a neighbour's bytes, which are in the cache anyway. */
        for (unsigned lane = 0; lane < width; lane++)
            data[lane] = lanes[lane] ? lanes[lane]->run.data : any;
        engine->compress(state, data, blocks);
        for (unsigned lane = 0; lane < width; lane++) {
            Message *message = lanes[lane];
            if (!message)
                continue;
            message->run.data += 64 * blocks;
            message->run.blocks -= blocks;
            if (message->run.blocks > 0 || message->next_run.blocks > 0)
                continue;
            store(engine, state, lane, message);
            finish(queue, message);
            lanes[lane] = NULL;
            alive--;
        }
    }
    Message *parked[BTFAST_MAX_LANES];
    queue->parked = parked;
    for (unsigned lane = 0; lane < width; lane++) {
        if (!lanes[lane])
            continue;
        store(engine, state, lane, lanes[lane]);
        parked[queue->parked_count++] = lanes[lane];
    }
    drive(engine->narrow, queue);
}

static int run(Queue *queue, int kernel)
{
    const Engine *engine = btfast_engine(queue->algorithm, kernel);
    if (!engine)
        return -1;
    while (engine->narrow && queue->n <= engine->narrow_at)
        engine = engine->narrow;
    drive(engine, queue);
    return 0;
}

int btfast_hash_jobs(int algorithm, HashJob *jobs, size_t n, int kernel)
{
    Queue queue = {.algorithm = algorithm, .jobs = jobs, .n = n};
    return run(&queue, kernel);
}

int btfast_update_jobs(int algorithm, UpdateJob *jobs, size_t n, int kernel)
{
    Queue queue = {.algorithm = algorithm, .updates = jobs, .n = n};
    return run(&queue, kernel);
}

int btfast_state_start(int algorithm, HashState *state)
{
    if (!known(algorithm))
        return -1;
    memset(state, 0, sizeof *state);
    memcpy(state->h, start_values[algorithm - 1], sizeof state->h);
    return 0;
}

int btfast_state_digest(int algorithm, const HashState *state, unsigned char *digest)
{
    const Engine *engine = btfast_engine(algorithm, BTFAST_KERNEL_AUTO);
    if (!engine)
        return -1;
    while (engine->narrow)
        engine = engine->narrow;
    uint32_t h[8];
    uint8_t edge[128];
    const uint8_t *data = edge;
    memcpy(h, state->h, sizeof h);
    engine->compress(h, &data, pad(edge, state->partial, state->length % 64, state->length));
    store_digest(algorithm, h, digest);
    return 0;
}
