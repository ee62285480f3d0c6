/* Idle peers: COUNT connections to the client that listens at --to, each from an address of its own. Every second one
 * claims to have all pieces and the others have nothing; none ever wants or gives anything, and what comes is read and
 * thrown away. Once all are connected and greeted the process --tell gets SIGUSR1; when the client goes it waits for
 * the next one.
 *
 * idle --to A:P --info-hash HEX --pieces N --count COUNT [--tell PID]
 *
 * Lines on stdout: "ready", then "held TIME COUNT" and "gone TIME BYTES_READ" for each client. */
#include "common.h"

#define BURST 100 /* connections begun before their answers are looked at: a listener's backlog is no longer */
#define GREETING 68

enum state { CLOSED, CONNECTING, OPEN, GREETED };

struct idler {
    int fd;
    enum state state;
    size_t got;
};

static struct idler *idlers;
static int count, opened, greeted;
static int poller;
static uint8_t *hello;
static size_t hello_length;
static struct sockaddr_in target;
static unsigned long long bytes;

static void prepare(const uint8_t info_hash[20], size_t pieces)
{
    size_t bits = (pieces + 7) / 8;
    hello = allocate(GREETING + 5 + bits);
    memcpy(hello, "\x13" "BitTorrent protocol\0\0\0\0\0\0\0\0", 28);
    memcpy(hello + 28, info_hash, 20);
    store_u32(hello + GREETING, (uint32_t)(1 + bits));
    hello[GREETING + 4] = 5;
    memset(hello + GREETING + 5, 0xff, bits);
    if (pieces % 8)
        hello[GREETING + 5 + bits - 1] = (uint8_t)(0xff << (8 - pieces % 8));
    hello_length = GREETING + 5 + bits;
}

static void end(struct idler *idler)
{
    if (idler->state == CLOSED)
        return;
    close(idler->fd);
    greeted -= idler->state == GREETED;
    opened--;
    idler->state = CLOSED;
    idler->got = 0;
}

static void begin(int number)
{
    struct idler *idler = &idlers[number];
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f100001u + (uint32_t)number)};
    idler->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (idler->fd < 0 || bind(idler->fd, (struct sockaddr *)&own, sizeof own))
        die("a socket for an idle peer");
    int small = 16384;
    setsockopt(idler->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    idler->state = CONNECTING;
    opened++;
    if (connect(idler->fd, (struct sockaddr *)&target, sizeof target) && errno != EINPROGRESS) {
        end(idler);
        return;
    }
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = idler};
    epoll_ctl(poller, EPOLL_CTL_ADD, idler->fd, &event);
}

static void greet(struct idler *idler)
{
    int number = (int)(idler - idlers);
    char peer_id[32];
    snprintf(peer_id, sizeof peer_id, "-ID0001-%012d", number);
    memcpy(hello + 48, peer_id, 20);
    size_t length = number % 2 ? GREETING : hello_length;
    if (send(idler->fd, hello, length, MSG_NOSIGNAL) != (ssize_t)length) {
        end(idler);
        return;
    }
    idler->state = OPEN;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = idler};
    epoll_ctl(poller, EPOLL_CTL_MOD, idler->fd, &event);
}

static void take(struct idler *idler)
{
    static uint8_t sink[65536];
    ssize_t got = read(idler->fd, sink, sizeof sink);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            end(idler);
        return;
    }
    bytes += (unsigned long long)got;
    idler->got += (size_t)got;
    if (idler->state == OPEN && idler->got >= GREETING) {
        idler->state = GREETED;
        greeted++;
    }
}

int main(int argc, char **argv)
{
    die_with_parent();
    uint8_t info_hash[20];
    parse_hash(option(argc, argv, "--info-hash", NULL), info_hash);
    prepare(info_hash, (size_t)atol(option(argc, argv, "--pieces", NULL)));
    target = parse_address(option(argc, argv, "--to", NULL));
    count = atoi(option(argc, argv, "--count", NULL));
    pid_t tell = atoi(option(argc, argv, "--tell", "0"));
    idlers = allocate((size_t)count * sizeof *idlers);
    poller = epoll_create1(EPOLL_CLOEXEC);
    printf("ready\n");
    fflush(stdout);
    for (int held = 0;;) {
        int waiting = 0;
        for (int i = 0; i < count; i++)
            waiting += idlers[i].state == CONNECTING;
        for (int i = 0; i < count && waiting < BURST && !held; i++)
            if (idlers[i].state == CLOSED) {
                begin(i);
                waiting++;
                if (!greeted) /* nobody listens, perhaps: one tries for all */
                    break;
            }
        struct epoll_event events[256];
        int found = epoll_wait(poller, events, 256, 20);
        for (int i = 0; i < found; i++) {
            struct idler *idler = events[i].data.ptr;
            if (idler->state == CONNECTING) {
                int problem = 0;
                socklen_t size = sizeof problem;
                getsockopt(idler->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
                if (problem)
                    end(idler);
                else
                    greet(idler);
            } else if (idler->state != CLOSED) {
                take(idler);
            }
        }
        if (!held && greeted == count) {
            held = 1;
            printf("held %.6f %d\n", now_s(), count);
            fflush(stdout);
            if (tell)
                kill(tell, SIGUSR1);
        }
        if (held && opened == 0) {
            held = 0;
            printf("gone %.6f %llu\n", now_s(), bytes);
            fflush(stdout);
            bytes = 0;
        }
    }
}
