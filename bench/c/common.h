/* What the bench's small C programs share: the clock, failing with one line, listening sockets, integers of the wire. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 16384u

/* Seconds of CLOCK_MONOTONIC, which is what Python's time.monotonic() reads on Linux: figures of all programs compare. */
static inline double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "bad argument");
    exit(1);
}

static inline void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        die("calloc");
    return memory;
}

/* A tool must never outlive the bench, however the bench ends. */
static inline void die_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
}

/* The value after NAME in argv; FALLBACK when it is not there, failing when FALLBACK is NULL too. */
static inline const char *option(int argc, char **argv, const char *name, const char *fallback)
{
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], name))
            return argv[i + 1];
    if (!fallback) {
        errno = 0;
        die(name);
    }
    return fallback;
}

static inline void parse_hash(const char *hex, uint8_t hash[20])
{
    for (int i = 0; i < 20; i++) {
        unsigned value;
        if (sscanf(hex + 2 * i, "%2x", &value) != 1) {
            errno = 0;
            die("--info-hash");
        }
        hash[i] = (uint8_t)value;
    }
}

/* "1.2.3.4:5" */
static inline struct sockaddr_in parse_address(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    unsigned port;
    if (sscanf(text, "%63[0-9.]:%u", host, &port) != 2 || inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        errno = 0;
        die(text);
    }
    address.sin_port = htons((uint16_t)port);
    return address;
}

/* Every tenth of a second: how many answers have come since. */
static inline void tell_answers(unsigned long *answers, double *told, double now)
{
    if (now - *told < 0.1)
        return;
    if (*answers)
        printf("answers %.6f %lu\n", now, *answers);
    fflush(stdout);
    *answers = 0;
    *told = now;
}

/* Listens on a free port of 127.0.0.0/8 + HOST and prints the address. Each seed has an address of its own, because
 * clients keep one connection per IP address by default. */
static inline int listen_on(uint32_t host)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000u + host)};
    socklen_t length = sizeof address;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) || listen(fd, 1024)
        || getsockname(fd, (struct sockaddr *)&address, &length))
        die("listen");
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
    printf("listening %s:%u\n", text, ntohs(address.sin_port));
    return fd;
}

static inline void no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* A new file of SIZE bytes, preallocated, to be written with O_DIRECT ("direct") where its file system knows that. */
static inline int open_output(const char *path, off_t size, const char **io)
{
    *io = "direct";
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0644);
    if (fd < 0 && errno == EINVAL) {
        *io = "buffered";
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    }
    if (fd < 0)
        die(path);
    if (fallocate(fd, 0, 0, size) && errno != EOPNOTSUPP)
        die("fallocate");
    return fd;
}

static inline uint32_t load_u32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, 4);
    return ntohl(value);
}

static inline void store_u32(uint8_t *p, uint32_t value)
{
    value = htonl(value);
    memcpy(p, &value, 4);
}

#endif
