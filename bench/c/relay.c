/* A long pipe in user space: TCP connections are passed on to the seeds, each direction delayed by half the round trip
 * and paced at the link's rate. (tc netem is not in every kernel, and needs root.)
 *
 * relay --rtt-ms N --rate BYTES_PER_SECOND --first-host N --to A:P,A:P,...
 *
 * Each target gets a listening port of its own and a link of its own; connections to one target share its link.
 * A link is virtual time: bytes enter it no faster than its rate and leave it half a round trip later. A tick that comes
 * late hands out what the link would have carried meanwhile, as long as the sender had bytes waiting; an idle link
 * saves nothing up. Each direction can hold two bandwidth-delay products, so the relay never is what limits.
 *
 * The relay reads along in what it delivers to the downloader, to know when payload passed. Lines on stdout:
 * "listening A:P" a target, "ready", then "accept TIME LINK" and, when a connection ends,
 * "close TIME LINK PAYLOAD_BYTES FIRST_PAYLOAD_TIME LAST_PAYLOAD_TIME". */
#include "common.h"

#include <math.h>
#include <sys/timerfd.h>

#define MARKS 1024u
#define LATE_S 0.25 /* a busy link catches up with at most this much lost time */

/* Where the delivered stream stands between messages, and the payload seen so far. */
struct watch {
    uint64_t skip, payload;
    double first, last;
    uint32_t head_length;
    int in_piece;
    uint8_t head[5];
};

/* What epoll hands back: a flow whose sender has bytes, or a link with a new connection; neither: the timer. */
struct source {
    struct flow *flow;
    struct link *link;
};

/* Bytes on their way: a ring, and marks that say up to which byte may leave at which time. */
struct flow {
    struct source source;
    int from, to;
    int readable, ended; /* ended: the sender has closed */
    size_t size;
    uint64_t head, tail; /* bytes taken in, bytes given out */
    uint32_t first, last;
    uint8_t *ring;
    struct {
        uint64_t end;
        double due;
    } marks[MARKS];
};

struct direction {
    double credit, refilled;
    int busy; /* the sender had more than the link would take */
};

struct link {
    struct source source;
    int fd, number;
    struct sockaddr_in target;
    struct direction up, down;
};

struct connection {
    struct connection *next, **back;
    struct link *link;
    int client_fd, seed_fd;
    struct flow up, down;
    struct watch watch;
};

static double rate, delay, tick;
static int poller;
static struct connection *connections;

static void watch_bytes(struct watch *watch, const uint8_t *data, size_t length, double now)
{
    while (length) {
        if (watch->skip) {
            size_t part = watch->skip < length ? (size_t)watch->skip : length;
            if (watch->in_piece) {
                watch->payload += part;
                watch->last = now;
                if (!watch->first)
                    watch->first = now;
            }
            watch->skip -= part;
            data += part;
            length -= part;
            continue;
        }
        if (watch->in_piece || watch->head_length == 5)
            watch->in_piece = 0, watch->head_length = 0;
        watch->head[watch->head_length++] = *data++;
        length--;
        uint32_t message = watch->head_length >= 4 ? load_u32(watch->head) : 1;
        if (watch->head_length == 4 && !message) {
            watch->head_length = 0; /* keep-alive */
        } else if (watch->head_length == 5) {
            watch->in_piece = watch->head[4] == 7;
            watch->skip = message - 1;
        }
    }
}

static void take_in(struct flow *flow, struct direction *direction, double now)
{
    if (direction->refilled < now) { /* the first connection of this link in this tick */
        double limit = direction->busy ? LATE_S : 2 * tick;
        direction->credit = fmin(direction->credit + (now - direction->refilled) * rate, limit * rate);
        direction->refilled = now;
        direction->busy = 0;
    }
    while (flow->readable) {
        uint64_t room = flow->size - (flow->head - flow->tail), at = flow->head % flow->size;
        room = room < flow->size - at ? room : flow->size - at;
        if (!room)
            return;
        if (direction->credit < 1) {
            direction->busy = 1;
            return;
        }
        size_t wanted = direction->credit < (double)room ? (size_t)direction->credit : (size_t)room;
        ssize_t got = recv(flow->from, flow->ring + at, wanted, 0);
        if (got <= 0) {
            flow->readable = 0;
            flow->ended = got == 0 || errno != EAGAIN;
            return;
        }
        flow->head += (uint64_t)got;
        direction->credit -= (double)got;
        uint32_t newest = flow->last - 1;
        if (flow->last == flow->first || (flow->marks[newest % MARKS].due < now + delay && flow->last - flow->first < MARKS))
            newest = flow->last++;
        flow->marks[newest % MARKS].end = flow->head;
        flow->marks[newest % MARKS].due = now + delay;
    }
}

/* Gives out what is due. False when the receiver is gone. */
static int give_out(struct flow *flow, struct watch *watch, double now)
{
    while (flow->first != flow->last && flow->marks[flow->first % MARKS].due <= now) {
        uint64_t end = flow->marks[flow->first % MARKS].end;
        while (flow->tail < end) {
            uint64_t at = flow->tail % flow->size, length = end - flow->tail;
            length = length < flow->size - at ? length : flow->size - at;
            ssize_t sent = send(flow->to, flow->ring + at, (size_t)length, MSG_NOSIGNAL);
            if (sent < 0)
                return errno == EAGAIN;
            if (watch)
                watch_bytes(watch, flow->ring + at, (size_t)sent, now);
            flow->tail += (uint64_t)sent;
        }
        flow->first++;
    }
    return 1;
}

static void start_flow(struct flow *flow, int from, int to)
{
    flow->from = from;
    flow->to = to;
    flow->size = (size_t)(rate * delay * 4) + 256 * 1024; /* two bandwidth-delay products */
    flow->ring = malloc(flow->size);
    if (!flow->ring)
        die("malloc");
    flow->source.flow = flow;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = &flow->source};
    epoll_ctl(poller, EPOLL_CTL_ADD, from, &event);
}

static void accept_clients(struct link *link)
{
    int fd;
    while ((fd = accept4(link->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        printf("accept %.6f %d\n", now_s(), link->number);
        fflush(stdout);
        int seed = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (seed < 0 || connect(seed, (struct sockaddr *)&link->target, sizeof link->target))
            die("connect to the seed");
        fcntl(seed, F_SETFL, O_NONBLOCK);
        no_delay(fd);
        no_delay(seed);
        struct connection *connection = allocate(sizeof *connection);
        connection->link = link;
        connection->client_fd = fd;
        connection->seed_fd = seed;
        connection->watch.skip = 68; /* the seed's handshake */
        start_flow(&connection->up, fd, seed);
        start_flow(&connection->down, seed, fd);
        connection->next = connections;
        connection->back = &connections;
        if (connections)
            connections->back = &connection->next;
        connections = connection;
    }
}

static void drop(struct connection *connection)
{
    struct watch *watch = &connection->watch;
    printf("close %.6f %d %llu %.6f %.6f\n", now_s(), connection->link->number, (unsigned long long)watch->payload, watch->first,
           watch->last);
    fflush(stdout);
    *connection->back = connection->next;
    if (connection->next)
        connection->next->back = connection->back;
    close(connection->client_fd);
    close(connection->seed_fd);
    free(connection->up.ring);
    free(connection->down.ring);
    free(connection);
}

static void run_tick(void)
{
    double now = now_s();
    for (struct connection *connection = connections, *next; connection; connection = next) {
        next = connection->next;
        struct flow *up = &connection->up, *down = &connection->down;
        take_in(up, &connection->link->up, now);
        take_in(down, &connection->link->down, now);
        int alive = give_out(up, NULL, now) & give_out(down, &connection->watch, now);
        /* The downloader's end ends both; the seed's end ends once its last bytes have arrived. */
        if (!alive || up->ended || (down->ended && down->tail == down->head))
            drop(connection);
    }
}

/* The timer runs only while there is a connection. Ticks of 16 KiB of a link's bytes, within 1 to 5 ms. */
static void set_timer(int timer, int on)
{
    struct itimerspec spec = {{0, 0}, {0, 0}};
    if (on) {
        spec.it_interval.tv_nsec = (long)(tick * 1e9);
        spec.it_value = spec.it_interval;
    }
    timerfd_settime(timer, 0, &spec, NULL);
}

int main(int argc, char **argv)
{
    die_with_parent();
    delay = atof(option(argc, argv, "--rtt-ms", NULL)) / 2000;
    rate = atof(option(argc, argv, "--rate", NULL));
    tick = fmin(fmax(BLOCK / rate, 0.001), 0.005);
    uint32_t host = (uint32_t)atoi(option(argc, argv, "--first-host", "2"));
    char *targets = strdup(option(argc, argv, "--to", NULL));
    poller = epoll_create1(EPOLL_CLOEXEC);
    int number = 0;
    for (char *text = strtok(targets, ","); text; text = strtok(NULL, ",")) {
        struct link *link = allocate(sizeof *link);
        link->target = parse_address(text);
        link->number = number;
        link->fd = listen_on(host + (uint32_t)number++);
        link->source.link = link;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &link->source};
        epoll_ctl(poller, EPOLL_CTL_ADD, link->fd, &event);
    }
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), ticking = 0;
    struct source timer_source = {NULL, NULL};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &timer_source};
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[128];
        int count = epoll_wait(poller, events, 128, -1), ticked = 0;
        for (int i = 0; i < count; i++) {
            struct source *source = events[i].data.ptr;
            uint64_t expired;
            if (source->flow)
                source->flow->readable = 1;
            else if (source->link)
                accept_clients(source->link);
            else
                ticked = read(timer, &expired, sizeof expired) > 0;
        }
        if (ticked)
            run_tick();
        if (ticking != (connections != NULL)) {
            ticking = connections != NULL;
            set_timer(timer, ticking);
        }
    }
}
