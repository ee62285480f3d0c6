/* tracker --peers A:P,A:P,... [--log 1]: an HTTP tracker that gives every announce the same peers (BEP 23), for any
 * info-hash. It knows nothing and checks nothing, so that the clients' own cost is what a load measures. With --log each
 * announce with event=started is a line `started TIME`, each other one `announce TIME`. */
#include "common.h"

struct client {
    int fd;
    size_t length;
    char request[8192];
};

static int logging;
static char answers[2][4096]; /* [0] closes the connection, [1] keeps it */
static size_t answer_length[2];

static void prepare(const char *peers)
{
    uint8_t body[2048];
    uint8_t compact[1200];
    size_t size = 0;
    char *list = strdup(peers);
    for (char *text = strtok(list, ","); text; text = strtok(NULL, ",")) {
        struct sockaddr_in address = parse_address(text);
        if (size + 6 > sizeof compact)
            die("too many peers");
        memcpy(compact + size, &address.sin_addr, 4);
        memcpy(compact + size + 4, &address.sin_port, 2);
        size += 6;
    }
    free(list);
    int length = snprintf((char *)body, sizeof body, "d8:completei%zue10:incompletei0e8:intervali1800e5:peers%zu:", size / 6, size);
    memcpy(body + length, compact, size);
    body[length + (int)size] = 'e';
    length += (int)size + 1;
    for (int keep = 0; keep < 2; keep++) {
        int head = snprintf(answers[keep], sizeof answers[keep],
                            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n", length,
                            keep ? "keep-alive" : "close");
        memcpy(answers[keep] + head, body, (size_t)length);
        answer_length[keep] = (size_t)(head + length);
    }
}

/* Answers every whole request in the buffer; false when the connection is over. */
static int answer(struct client *client)
{
    char *end;
    while ((end = memmem(client->request, client->length, "\r\n\r\n", 4))) {
        size_t size = (size_t)(end - client->request) + 4;
        int keep = memmem(client->request, size, "HTTP/1.1", 8) && !memmem(client->request, size, "onnection: close", 16)
                   && !memmem(client->request, size, "onnection: Close", 16);
        if (logging)
            printf("%s %.6f\n", memmem(client->request, size, "event=started", 13) ? "started" : "announce", now_s());
        if (send(client->fd, answers[keep], answer_length[keep], MSG_NOSIGNAL) < 0 || !keep)
            return 0;
        client->length -= size;
        memmove(client->request, client->request + size, client->length);
    }
    return client->length < sizeof client->request;
}

int main(int argc, char **argv)
{
    die_with_parent();
    prepare(option(argc, argv, "--peers", NULL));
    logging = atoi(option(argc, argv, "--log", "0"));
    struct client listener = {.fd = listen_on(1)};
    printf("ready\n");
    fflush(stdout);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener.fd, &event);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (client == &listener) {
                int fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd < 0)
                    continue;
                client = allocate(sizeof *client);
                client->fd = fd;
                no_delay(fd);
                event = (struct epoll_event){.events = EPOLLIN, .data.ptr = client};
                epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
                continue;
            }
            ssize_t got = recv(client->fd, client->request + client->length, sizeof client->request - client->length, 0);
            if (got > 0)
                client->length += (size_t)got;
            if ((got < 0 && errno == EAGAIN) || (got > 0 && answer(client)))
                continue;
            close(client->fd);
            free(client);
        }
        fflush(stdout);
    }
}
