/* The least work a downloader can do: ask, receive, hash, write. One thread and no client logic: pieces are asked for
 * in order, each from one connection, two ahead; payload is read straight into its place; 16 pieces are hashed at once
 * and written with O_DIRECT. What btfast costs beyond this is what its logic and its processes cost.
 *
 * floor --out FILE --info-hash HEX --hashes FILE --piece-length N --size N --peers A:P,A:P,...
 *
 * --hashes holds the 20-byte SHA-1 of each piece; every piece is checked. SIZE is a multiple of the piece length, and
 * that of 16 KiB. Prints one line "floor IO SECONDS MIB_PER_SECOND CPU_SECONDS_PER_GIB". */
#include "common.h"
#include "kernels.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>

#define AT_ONCE 16     /* pieces hashed together: the widest kernel's lanes */
#define MAX_PEERS 64
#define FRAME (13u + BLOCK)

struct peer {
    int fd;
    int64_t piece, asked; /* the piece that arrives now, the one asked for after it; -1: none */
    uint8_t *slot;
    size_t received; /* bytes of the piece's messages, headers included */
};

static uint32_t piece_length;
static int64_t piece_count, next_piece, done;
static const char *out_path;
static int out_fd;
static uint8_t *hashes;
static uint8_t *free_slots[2 * AT_ONCE + MAX_PEERS];
static int free_count, waiting;
static HashJob jobs[AT_ONCE];
static int64_t job_pieces[AT_ONCE];

static void send_all(int fd, const void *data, size_t length)
{
    for (const char *from = data; length;) {
        ssize_t sent = send(fd, from, length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            die("send");
        if (sent > 0) {
            from += sent;
            length -= (size_t)sent;
        }
    }
}

static void receive_all(int fd, uint8_t *data, size_t length)
{
    if (recv(fd, data, length, MSG_WAITALL) != (ssize_t)length)
        die("handshake");
}

/* Asks for the whole next piece; returns its index or -1 when none is left. */
static int64_t ask(int fd)
{
    if (next_piece == piece_count)
        return -1;
    uint32_t blocks = piece_length / BLOCK;
    uint8_t *messages = allocate(17 * blocks);
    for (uint32_t i = 0; i < blocks; i++) {
        uint8_t *p = messages + 17 * i;
        memcpy(p, "\0\0\0\x0d\x06", 5);
        store_u32(p + 5, (uint32_t)next_piece);
        store_u32(p + 9, i * BLOCK);
        store_u32(p + 13, BLOCK);
    }
    send_all(fd, messages, 17 * blocks);
    free(messages);
    return next_piece++;
}

static void hash_and_write(void)
{
    if (btfast_hash_jobs(BTFAST_SHA1, jobs, (size_t)waiting, BTFAST_KERNEL_AUTO))
        die("no SHA-1 kernel");
    for (int i = 0; i < waiting; i++) {
        if (memcmp(jobs[i].digest, hashes + 20 * job_pieces[i], 20)) {
            errno = 0;
            die("a piece's hash is wrong");
        }
        if (pwrite(out_fd, jobs[i].data, piece_length, (off_t)job_pieces[i] * piece_length) != (ssize_t)piece_length)
            die("pwrite");
        free_slots[free_count++] = (uint8_t *)jobs[i].data;
    }
    done += waiting;
    waiting = 0;
}

static void begin_piece(struct peer *peer)
{
    peer->piece = peer->asked;
    peer->received = 0;
    peer->slot = peer->piece < 0 ? NULL : free_slots[--free_count];
    peer->asked = peer->piece < 0 ? -1 : ask(peer->fd);
}

/* Reads block headers into a scratch area and payload into the piece's slot, in one call. */
static void receive(struct peer *peer)
{
    static uint8_t scratch[13];
    while (peer->piece >= 0) {
        struct iovec parts[64];
        size_t at = peer->received, end = (size_t)(piece_length / BLOCK) * FRAME;
        int count = 0;
        while (count < 64 && at < end) {
            size_t block = at / FRAME, offset = at % FRAME;
            if (offset < 13)
                parts[count] = (struct iovec){scratch, 13 - offset};
            else
                parts[count] = (struct iovec){peer->slot + block * BLOCK + offset - 13, FRAME - offset};
            at += parts[count++].iov_len;
        }
        ssize_t got = readv(peer->fd, parts, count);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0)
            die("receive");
        peer->received += (size_t)got;
        if (peer->received == end) {
            jobs[waiting].data = peer->slot;
            jobs[waiting].length = piece_length;
            job_pieces[waiting++] = peer->piece;
            if (waiting == AT_ONCE || done + waiting == piece_count)
                hash_and_write();
            begin_piece(peer);
        } else if (got < 65536) {
            return;
        }
    }
}

static void join(struct peer *peer, const char *address, const uint8_t *info_hash)
{
    struct sockaddr_in target = parse_address(address);
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (peer->fd < 0 || connect(peer->fd, (struct sockaddr *)&target, sizeof target))
        die(address);
    no_delay(peer->fd);
    uint8_t handshake[68 + 5] = "\x13" "BitTorrent protocol";
    memcpy(handshake + 28, info_hash, 20);
    memcpy(handshake + 48, "-FL0001-abcdefghijkl\0\0\0\1\2", 25);
    send_all(peer->fd, handshake, sizeof handshake);
    size_t greeting = 68 + 5 + (size_t)(piece_count + 7) / 8 + 5; /* handshake, bitfield, unchoke */
    uint8_t *answer = allocate(greeting);
    receive_all(peer->fd, answer, greeting);
    if (answer[greeting - 1] != 1)
        die("not an unchoke where one was expected");
    free(answer);
    peer->asked = ask(peer->fd);
    begin_piece(peer);
    fcntl(peer->fd, F_SETFL, O_NONBLOCK);
}

static void load_hashes(const char *path)
{
    size_t length = 20 * (size_t)piece_count;
    hashes = allocate(length);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || read(fd, hashes, length) != (ssize_t)length)
        die(path);
    close(fd);
}

static double cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
           + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

int main(int argc, char **argv)
{
    double start = now_s();
    uint8_t info_hash[20];
    static struct peer peers[MAX_PEERS];
    signal(SIGPIPE, SIG_IGN);
    btfast_kernels_init();
    out_path = option(argc, argv, "--out", NULL);
    parse_hash(option(argc, argv, "--info-hash", NULL), info_hash);
    piece_length = (uint32_t)atol(option(argc, argv, "--piece-length", NULL));
    off_t size = atoll(option(argc, argv, "--size", NULL));
    errno = 0;
    if (!piece_length || piece_length % BLOCK || size % piece_length)
        die("--size must be whole pieces, a piece whole blocks of 16 KiB");
    piece_count = size / piece_length;
    load_hashes(option(argc, argv, "--hashes", NULL));
    const char *io;
    out_fd = open_output(out_path, size, &io);
    size_t slots = sizeof free_slots / sizeof *free_slots;
    /* In huge pages, as the programs that it is the floor of: fewer page faults, and whole requests for the disk. */
    size_t huge = 2 << 20, room = (slots * piece_length + huge - 1) / huge * huge;
    uint8_t *memory = aligned_alloc(huge, room);
    if (!memory)
        die("aligned_alloc");
    madvise(memory, room, MADV_HUGEPAGE);
    while (free_count < (int)slots) { /* the last one given back is the first one taken: few of them are ever touched */
        free_slots[free_count] = memory + (size_t)free_count * piece_length;
        free_count++;
    }
    int poller = epoll_create1(EPOLL_CLOEXEC), count = 0;
    char *list = strdup(option(argc, argv, "--peers", NULL));
    for (char *address = strtok(list, ","); address && count < MAX_PEERS; address = strtok(NULL, ","), count++) {
        join(&peers[count], address, info_hash);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &peers[count]};
        epoll_ctl(poller, EPOLL_CTL_ADD, peers[count].fd, &event);
    }
    while (done < piece_count) {
        struct epoll_event events[MAX_PEERS];
        int ready = epoll_wait(poller, events, MAX_PEERS, -1);
        for (int i = 0; i < ready; i++)
            receive(events[i].data.ptr);
    }
    if (close(out_fd))
        die("close");
    double seconds = now_s() - start, gib = (double)size / (1 << 30);
    printf("floor %s %.3f %.1f %.3f\n", io, seconds, gib * 1024 / seconds, cpu_s() / gib);
    return 0;
}
