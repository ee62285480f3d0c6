/* A cheap seed: one thread that answers requests out of mapped memory with writev, so that what a load measures is the
 * downloader. It unchokes everybody at once and takes up to 2000 requests (BEP 10 reqq).
 *
 * seed --data FILE --info-hash HEX --piece-length N --seeds COUNT [--first-host 2] [--rate BYTES_PER_SECOND] [--hold 1]
 *      [--encrypt 1]
 *
 * COUNT seeds listen on 127.0.0.2, 127.0.0.3 and so on, one free port each. --rate caps each connection. With --hold
 * nobody is unchoked until SIGUSR1 comes, and after it everybody, until the last one has gone.
 * With --encrypt they speak MSE with RC4 and nothing else.
 * Lines on stdout: "listening A:P" a seed, "ready", then "accept TIME SEED" and "close TIME SEED PAYLOAD_BYTES", and
 * "unchoke TIME PEERS" with --hold. */
#include "common.h"
#include "mse.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define QUEUE 4096u          /* requests held for one peer; more than reqq says, for clients that do not read it */
#define BATCH 32             /* blocks a writev */
#define HEADER 13u
#define TICK_MS 50           /* how often a capped connection may send */
#define INPUT (128u * 1024)
#define SEALED (64u * 1024)  /* bytes encrypted at a time */
#define UNCHOKE 5 /* bytes of the message that ends a greeting */

struct request {
    uint32_t index, begin, length;
};

struct peer {
    struct peer *next, **back;
    int fd, seed, greeted, wants_write, starved;
    uint8_t *greeting; /* handshake, bitfield, unchoke: sent before any block */
    size_t greeting_length, greeting_sent;
    uint32_t first, last; /* queue[first % QUEUE] .. queue[(last - 1) % QUEUE] */
    size_t sent;          /* bytes of the first request's answer that are gone */
    uint64_t payload;
    double credit, refilled;
    struct mse *mse; /* with --encrypt */
    uint8_t *sealed;
    size_t sealed_length, sealed_sent;
    size_t input_length;
    struct request queue[QUEUE];
    uint8_t input[INPUT];
};

struct listener {
    int fd, seed;
};

static const uint8_t *data;
static size_t data_length;
static uint32_t piece_length;
static uint8_t info_hash[20];
static double rate;
static int poller;
static struct peer *peers;
static int hold, released = 1, encrypt;
static volatile sig_atomic_t signalled;

static void watch_writes(struct peer *peer, int wanted)
{
    if (peer->wants_write == wanted)
        return;
    peer->wants_write = wanted;
    struct epoll_event event = {.events = EPOLLIN | (wanted ? (uint32_t)EPOLLOUT : 0u), .data.ptr = peer};
    epoll_ctl(poller, EPOLL_CTL_MOD, peer->fd, &event);
}

static void greet(struct peer *peer)
{
    size_t pieces = (data_length + piece_length - 1) / piece_length, bits = (pieces + 7) / 8;
    static const char extended[] = "d1:mde4:reqqi2000ee";
    uint8_t *p = peer->greeting = allocate(68 + 5 + bits + 5 + 6 + sizeof extended);
    memcpy(p, "\x13" "BitTorrent protocol\0\0\0\0\0\x10\0\0", 28);
    memcpy(p + 28, info_hash, 20);
    char peer_id[32];
    snprintf(peer_id, sizeof peer_id, "-CS0001-%012d", peer->seed);
    memcpy(p + 48, peer_id, 20);
    p += 68;
    store_u32(p, (uint32_t)(1 + bits));
    p[4] = 5;
    memset(p + 5, 0xff, bits);
    if (pieces % 8)
        p[5 + bits - 1] = (uint8_t)(0xff << (8 - pieces % 8));
    p += 5 + bits;
    if (peer->input[25] & 0x10) {
        store_u32(p, (uint32_t)(2 + sizeof extended - 1));
        p[4] = 20;
        p[5] = 0;
        memcpy(p + 6, extended, sizeof extended - 1);
        p += 6 + sizeof extended - 1;
    }
    memcpy(p, "\0\0\0\1\1", UNCHOKE);
    peer->greeting_length = (size_t)(p - peer->greeting) + (released ? UNCHOKE : 0);
    peer->greeted = 1;
}

/* Takes N sent bytes off the front of what is to be sent. */
static void advance(struct peer *peer, size_t n)
{
    size_t part = peer->greeting_length - peer->greeting_sent;
    part = part < n ? part : n;
    peer->greeting_sent += part;
    n -= part;
    while (n) {
        struct request *request = &peer->queue[peer->first % QUEUE];
        size_t left = HEADER + request->length - peer->sent;
        if (n < left) {
            peer->sent += n;
            return;
        }
        n -= left;
        peer->sent = 0;
        peer->payload += request->length;
        peer->first++;
    }
}

/* Encrypts what the parts hold, as far as there is room; returns how many bytes. */
static size_t seal(struct peer *peer, const struct iovec *parts, int count)
{
    size_t n = 0;
    for (int i = 0; i < count && n < SEALED; i++) {
        size_t part = parts[i].iov_len < SEALED - n ? parts[i].iov_len : SEALED - n;
        memcpy(peer->sealed + n, parts[i].iov_base, part);
        n += part;
    }
    rc4_apply(&peer->mse->out, peer->sealed, n);
    peer->sealed_length = n;
    peer->sealed_sent = 0;
    return n;
}

/* Sends what is encrypted. 0 when the connection is broken, -1 when the socket is full. */
static int flush_sealed(struct peer *peer)
{
    while (peer->sealed_sent < peer->sealed_length) {
        ssize_t written = write(peer->fd, peer->sealed + peer->sealed_sent, peer->sealed_length - peer->sealed_sent);
        if (written < 0 && errno != EAGAIN)
            return 0;
        if (written < 0) {
            watch_writes(peer, 1);
            return -1;
        }
        peer->sealed_sent += (size_t)written;
    }
    return 1;
}

/* Sends until the socket is full, the credit is spent or nothing is asked for. False when the connection is broken. */
static int flush(struct peer *peer)
{
    static uint8_t headers[BATCH][HEADER];
    for (;;) {
        int flushed = peer->mse ? flush_sealed(peer) : 1;
        if (flushed <= 0)
            return -flushed;
        struct iovec parts[2 * BATCH + 1];
        int count = 0, blocks = 0;
        size_t budget = SIZE_MAX, sent = peer->sent;
        if (rate > 0)
            budget = peer->credit < 1 ? 0 : (size_t)peer->credit;
        if (peer->greeting_sent < peer->greeting_length)
            parts[count++] = (struct iovec){peer->greeting + peer->greeting_sent, peer->greeting_length - peer->greeting_sent};
        for (uint32_t at = peer->first; at != peer->last && blocks < BATCH && budget; at++, blocks++, sent = 0) {
            struct request *request = &peer->queue[at % QUEUE];
            uint8_t *header = headers[blocks];
            store_u32(header, 9 + request->length);
            header[4] = 7;
            store_u32(header + 5, request->index);
            store_u32(header + 9, request->begin);
            if (sent < HEADER)
                parts[count++] = (struct iovec){header + sent, HEADER - sent};
            size_t skip = sent < HEADER ? 0 : sent - HEADER, length = request->length - skip;
            length = length < budget ? length : budget;
            parts[count++] = (struct iovec){(void *)(data + (size_t)request->index * piece_length + request->begin + skip), length};
            budget -= length;
            if (skip + length < request->length)
                break;
        }
        peer->starved = rate > 0 && peer->first != peer->last && peer->credit < 1;
        if (!count) {
            watch_writes(peer, 0);
            return 1;
        }
        ssize_t written = peer->mse ? (ssize_t)seal(peer, parts, count) : writev(peer->fd, parts, count);
        if (written < 0) {
            if (errno != EAGAIN)
                return 0;
            watch_writes(peer, 1);
            return 1;
        }
        peer->credit -= (double)written;
        advance(peer, (size_t)written);
    }
}

static int push_request(struct peer *peer, const uint8_t *body)
{
    struct request request = {load_u32(body), load_u32(body + 4), load_u32(body + 8)};
    uint64_t end = (uint64_t)request.index * piece_length + request.begin + request.length;
    if (end > data_length || request.length > 8 * BLOCK || peer->last - peer->first == QUEUE) {
        fprintf(stderr, "seed: refused request %u %u %u\n", request.index, request.begin, request.length);
        return 0;
    }
    peer->queue[peer->last++ % QUEUE] = request;
    return 1;
}

/* A request whose answer has begun stays. */
static void cancel_request(struct peer *peer, const uint8_t *body)
{
    uint32_t at = peer->first + (peer->sent > 0);
    struct request gone = {load_u32(body), load_u32(body + 4), load_u32(body + 8)};
    if (peer->first == peer->last)
        return;
    while (at != peer->last && memcmp(&peer->queue[at % QUEUE], &gone, sizeof gone))
        at++;
    if (at == peer->last)
        return;
    for (; at + 1 != peer->last; at++)
        peer->queue[at % QUEUE] = peer->queue[(at + 1) % QUEUE];
    peer->last--;
}

static int secure(struct peer *peer)
{
    uint8_t answer[128];
    if (peer->mse && peer->mse->done)
        return 1;
    if (!memcmp(peer->input, "\x13" "BitT", peer->input_length < 5 ? peer->input_length : 5))
        return 0;
    if (!peer->mse) {
        peer->mse = allocate(sizeof *peer->mse);
        peer->sealed = allocate(SEALED);
    }
    int length = mse_answer(peer->mse, peer->input, &peer->input_length, info_hash, answer);
    return length >= 0 && write(peer->fd, answer, (size_t)length) == length;
}

static int handle_input(struct peer *peer)
{
    size_t at = 0;
    if (!peer->greeted) {
        if (encrypt ? !secure(peer) : peer->input[0] != 19) /* the client may come back in the other kind */
            return 0;
        if (peer->mse && !peer->mse->done)
            return 1;
        if (peer->input_length < 68)
            return 1;
        if (memcmp(peer->input + 28, info_hash, 20))
            return 0;
        greet(peer);
        at = 68;
    }
    while (peer->input_length - at >= 4) {
        uint8_t *message = peer->input + at;
        uint32_t length = load_u32(message);
        if (length > INPUT - 4)
            return 0;
        if (peer->input_length - at < 4 + length)
            break;
        if (length == 13 && message[4] == 6 && !push_request(peer, message + 5))
            return 0;
        if (length == 13 && message[4] == 8)
            cancel_request(peer, message + 5);
        at += 4 + length;
    }
    memmove(peer->input, peer->input + at, peer->input_length - at);
    peer->input_length -= at;
    return flush(peer);
}

static void drop(struct peer *peer)
{
    printf("close %.6f %d %llu\n", now_s(), peer->seed, (unsigned long long)peer->payload);
    fflush(stdout);
    *peer->back = peer->next;
    if (peer->next)
        peer->next->back = peer->back;
    close(peer->fd);
    free(peer->greeting);
    free(peer->mse);
    free(peer->sealed);
    free(peer);
    released = peers || !hold ? released : 0;
}

static void handle_signal(int number)
{
    (void)number;
    signalled = 1;
}

/* What was held back goes out to everybody. */
static void release_all(void)
{
    int count = 0;
    signalled = 0;
    if (released)
        return;
    released = 1;
    for (struct peer *peer = peers, *next; peer; peer = next) {
        next = peer->next;
        if (!peer->greeted)
            continue;
        count++;
        peer->greeting_length += UNCHOKE;
        if (!flush(peer))
            drop(peer);
    }
    printf("unchoke %.6f %d\n", now_s(), count);
    fflush(stdout);
}

static void accept_peers(struct listener *listener)
{
    int fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *peer = allocate(sizeof *peer);
        peer->fd = fd;
        peer->seed = listener->seed;
        peer->refilled = now_s();
        peer->next = peers;
        peer->back = &peers;
        if (peers)
            peers->back = &peer->next;
        peers = peer;
        no_delay(fd);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
        printf("accept %.6f %d\n", peer->refilled, peer->seed);
        fflush(stdout);
    }
}

/* Gives capped connections their next bytes; true while any of them waits for credit. */
static int refill(void)
{
    int waiting = 0;
    double now = now_s();
    for (struct peer *peer = peers, *next; peer; peer = next) {
        next = peer->next;
        peer->credit += (now - peer->refilled) * rate;
        peer->refilled = now;
        if (peer->credit > rate * 0.2) /* an idle connection saves up 0.2 s, no more */
            peer->credit = rate * 0.2;
        if (peer->starved && !peer->wants_write && !flush(peer)) {
            drop(peer);
            continue;
        }
        waiting |= peer->starved;
    }
    return waiting;
}

int main(int argc, char **argv)
{
    die_with_parent();
    const char *path = option(argc, argv, "--data", NULL);
    parse_hash(option(argc, argv, "--info-hash", NULL), info_hash);
    piece_length = (uint32_t)atol(option(argc, argv, "--piece-length", NULL));
    int seeds = atoi(option(argc, argv, "--seeds", "1"));
    uint32_t first_host = (uint32_t)atoi(option(argc, argv, "--first-host", "2"));
    rate = atof(option(argc, argv, "--rate", "0"));
    hold = atoi(option(argc, argv, "--hold", "0"));
    encrypt = atoi(option(argc, argv, "--encrypt", "0"));
    released = !hold;
    signal(SIGUSR1, handle_signal);
    int fd = open(path, O_RDONLY);
    struct stat status;
    if (fd < 0 || fstat(fd, &status))
        die(path);
    data_length = (size_t)status.st_size;
    data = mmap(NULL, data_length, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (data == MAP_FAILED)
        die("mmap");
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct listener *listeners = allocate((size_t)seeds * sizeof *listeners);
    for (int i = 0; i < seeds; i++) {
        listeners[i] = (struct listener){listen_on(first_host + (uint32_t)i), i};
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listeners[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, listeners[i].fd, &event);
    }
    printf("ready\n");
    fflush(stdout);
    for (int waiting = 0;;) {
        struct epoll_event events[64];
        int count = epoll_wait(poller, events, 64, waiting ? TICK_MS : hold && !released ? TICK_MS : -1);
        if (signalled)
            release_all();
        for (int i = 0; i < count; i++) {
            struct listener *listener = events[i].data.ptr;
            if (listener >= listeners && listener < listeners + seeds) {
                accept_peers(listener);
                continue;
            }
            struct peer *peer = events[i].data.ptr;
            int alive = 1;
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                ssize_t got = read(peer->fd, peer->input + peer->input_length, INPUT - peer->input_length);
                if (got > 0) {
                    if (peer->mse && peer->mse->done)
                        rc4_apply(&peer->mse->in, peer->input + peer->input_length, (size_t)got);
                    peer->input_length += (size_t)got;
                    alive = handle_input(peer);
                } else if (got == 0 || errno != EAGAIN) {
                    alive = 0;
                }
            }
            if (alive && (events[i].events & EPOLLOUT))
                alive = flush(peer);
            if (!alive)
                drop(peer);
        }
        if (rate > 0)
            waiting = refill();
    }
}
