/* announce_http --to A:P --torrents N --peers N [--keep 1]: announces to an HTTP tracker as fast as it answers, LINES at a
 * time, each on a connection of its own as most clients make it, or with --keep one after the other on connections that
 * stay. Prints every tenth of a second how many answers came: `answers TIME COUNT`. Info-hash number i is i as 20 bytes.
 * Waits for the tracker to come, and starts over when it goes. */
#include "common.h"

#define LINES 32
#define AGAIN_S 0.2

struct line {
    int fd, connecting;
    double since;
    size_t length;
    char answer[16384];
};

static struct sockaddr_in to;
static uint32_t torrents, peers, next_peer;
static int keep, poller;

static void leave(struct line *line, double now)
{
    if (line->fd >= 0)
        close(line->fd);
    line->fd = -1;
    line->since = now;
    line->length = 0;
}

static void connect_line(struct line *line, uint32_t number, double now)
{
    /* An answered announce leaves a closed connection behind in the kernel: with a reset instead, ports do not run out. */
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    line->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    line->since = now;
    line->connecting = 1;
    if (line->fd < 0)
        die("socket");
    setsockopt(line->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = number};
    if ((connect(line->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) || epoll_ctl(poller, EPOLL_CTL_ADD, line->fd, &event))
        leave(line, now);
}

static void ask(struct line *line, uint32_t number, double now)
{
    uint32_t peer = next_peer++ % peers, torrent = peer % torrents;
    char request[600];
    int length = snprintf(request, sizeof request,
                          "GET /announce?info_hash=%%00%%00%%00%%00%%00%%00%%00%%00%%00%%00%%00%%00%%00%%00%%00%%00%%%02X%%%02X%%%02X%%%02X"
                          "&peer_id=-XX0001-%012u&port=%u&uploaded=0&downloaded=0&left=%u&numwant=50&compact=1%s HTTP/1.1\r\n"
                          "Host: 127.0.0.1\r\nUser-Agent: bench\r\nAccept-Encoding: gzip\r\nConnection: %s\r\n\r\n",
                          torrent >> 24, torrent >> 16 & 255, torrent >> 8 & 255, torrent & 255, peer, 1024 + peer % 60000, peer % 3,
                          peer % 16 ? "" : "&event=started", keep ? "keep-alive" : "close");
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    epoll_ctl(poller, EPOLL_CTL_MOD, line->fd, &event);
    line->connecting = 0;
    line->length = 0;
    line->since = now;
    if (send(line->fd, request, (size_t)length, MSG_NOSIGNAL) != length)
        leave(line, now);
}

/* Whether a whole answer is there. */
static int whole(struct line *line)
{
    line->answer[line->length] = 0;
    char *end = strstr(line->answer, "\r\n\r\n"), *field = strcasestr(line->answer, "Content-Length:");
    return end && field && field < end && line->length >= (size_t)(end + 4 - line->answer) + (size_t)atol(field + 15);
}

int main(int argc, char **argv)
{
    static struct line lines[LINES];
    die_with_parent();
    to = parse_address(option(argc, argv, "--to", NULL));
    torrents = (uint32_t)atoi(option(argc, argv, "--torrents", "1000"));
    peers = (uint32_t)atoi(option(argc, argv, "--peers", "50000"));
    keep = atoi(option(argc, argv, "--keep", "0"));
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < LINES; i++)
        lines[i].fd = -1;
    printf("ready\n");
    fflush(stdout);
    unsigned long answers = 0;
    double told = now_s();
    for (;;) {
        struct epoll_event events[LINES];
        int count = epoll_wait(poller, events, LINES, 20);
        double now = now_s();
        for (int i = 0; i < count; i++) {
            uint32_t number = events[i].data.u32;
            struct line *line = &lines[number];
            if (line->connecting && !(events[i].events & (EPOLLERR | EPOLLHUP))) {
                ask(line, number, now);
                continue;
            }
            ssize_t got = recv(line->fd, line->answer + line->length, sizeof line->answer - 1 - line->length, 0);
            if (got < 0 && errno == EAGAIN)
                continue;
            line->length += got > 0 ? (size_t)got : 0;
            int good = got > 0 && whole(line);
            answers += (unsigned long)good;
            if (good && keep)
                ask(line, number, now);
            else if (good) {
                leave(line, now);
                connect_line(line, number, now);
            } else if (got <= 0)
                leave(line, now);
        }
        for (uint32_t i = 0; i < LINES; i++) {
            if (lines[i].fd >= 0 && now - lines[i].since > 2)
                leave(&lines[i], now);
            if (lines[i].fd < 0 && now - lines[i].since > AGAIN_S)
                connect_line(&lines[i], i, now);
        }
        tell_answers(&answers, &told, now);
    }
}
