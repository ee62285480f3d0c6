/* announce --to A:P --torrents N --peers N: announces to a UDP tracker (BEP 15) as fast as it answers, from four
 * sockets with a window of questions each, and prints every tenth of a second how many answers came:
 * `answers TIME COUNT`. Info-hash number i is i as 20 bytes. Waits for the tracker to come, and starts over when it goes. */
#include "common.h"

#define SOCKETS 4
#define WINDOW 32
#define SIZE 98
#define LOST_S 0.2
#define ID_S 50.0

struct line {
    int fd;
    uint8_t connection[8];
    double connected_at;
    int connected;
    int outstanding;
    double heard;
};

static uint32_t torrents, peers, next_peer;

static void ask_connection(struct line *line, double now)
{
    uint8_t data[16];
    store_u32(data, 0x417);
    store_u32(data + 4, 0x27101980);
    store_u32(data + 8, 0);
    store_u32(data + 12, 0xc0ffee);
    line->heard = now;
    line->outstanding = 0;
    line->connected = 0;
    (void)!write(line->fd, data, sizeof data);
}

static void fill(struct line *line)
{
    static uint8_t data[WINDOW][SIZE];
    struct mmsghdr messages[WINDOW];
    struct iovec vectors[WINDOW];
    int count = WINDOW - line->outstanding;
    if (count <= 0)
        return;
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < count; i++) {
        uint32_t peer = next_peer++ % peers;
        uint8_t *p = data[i];
        memset(p, 0, SIZE);
        memcpy(p, line->connection, 8);
        store_u32(p + 8, 1);
        store_u32(p + 12, peer);
        store_u32(p + 32, peer % torrents); /* the info-hash's last four bytes */
        memcpy(p + 36, "-XX0001-", 8);
        store_u32(p + 52, peer);
        store_u32(p + 68, peer % 3); /* left: a third are seeds */
        store_u32(p + 80, peer % 16 ? 0 : 2);
        store_u32(p + 92, 50);
        uint16_t port = htons((uint16_t)(1024 + peer % 60000));
        memcpy(p + 96, &port, 2);
        vectors[i] = (struct iovec){p, SIZE};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int sent = sendmmsg(line->fd, messages, (unsigned)count, 0);
    if (sent > 0)
        line->outstanding += sent;
}

static unsigned long take(struct line *line, double now)
{
    static uint8_t data[WINDOW][2048];
    struct mmsghdr messages[WINDOW];
    struct iovec vectors[WINDOW];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < WINDOW; i++) {
        vectors[i] = (struct iovec){data[i], sizeof data[i]};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int got = recvmmsg(line->fd, messages, WINDOW, MSG_DONTWAIT, NULL);
    unsigned long answers = 0;
    for (int i = 0; i < got; i++) {
        line->heard = now;
        uint32_t action = load_u32(data[i]);
        if (action == 0 && messages[i].msg_len >= 16 && !line->connected) {
            memcpy(line->connection, data[i] + 8, 8);
            line->connected = 1;
            line->connected_at = now;
            line->outstanding = 0;
        } else if (action == 1 && messages[i].msg_len >= 20) {
            answers++;
            line->outstanding -= line->outstanding > 0;
        }
    }
    return answers;
}

int main(int argc, char **argv)
{
    die_with_parent();
    struct sockaddr_in to = parse_address(option(argc, argv, "--to", NULL));
    torrents = (uint32_t)atoi(option(argc, argv, "--torrents", "1000"));
    peers = (uint32_t)atoi(option(argc, argv, "--peers", "50000"));
    struct line lines[SOCKETS] = {0};
    int poll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < SOCKETS; i++) {
        lines[i].fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int size = 4 << 20;
        setsockopt(lines[i].fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        if (lines[i].fd < 0 || connect(lines[i].fd, (struct sockaddr *)&to, sizeof to)
            || epoll_ctl(poll, EPOLL_CTL_ADD, lines[i].fd, &event))
            die("socket");
    }
    printf("ready\n");
    fflush(stdout);
    unsigned long answers = 0;
    double told = now_s();
    for (;;) {
        struct epoll_event events[SOCKETS];
        int count = epoll_wait(poll, events, SOCKETS, 20);
        double now = now_s();
        for (int i = 0; i < count; i++)
            answers += take(&lines[events[i].data.u32], now);
        for (int i = 0; i < SOCKETS; i++) {
            struct line *line = &lines[i];
            if (now - line->heard > LOST_S || (line->connected && now - line->connected_at > ID_S))
                ask_connection(line, now);
            else if (line->connected)
                fill(line);
        }
        tell_answers(&answers, &told, now);
    }
}
