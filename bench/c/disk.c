/* What the disk itself gives: a file of the payload's size, preallocated and written in order with O_DIRECT by a program
 * that does nothing else, several writes in flight, until fdatasync has returned. A download cannot be faster.
 *
 * disk --out FILE --size N [--write N] [--depth N]
 *
 * --write: bytes a write, whole pages; --depth: how many are in flight, where the kernel lets programs have that; else one.
 * What is written lies in 64 MiB of huge pages, in turn: what comes out of the cache makes a virtual disk look faster, and
 * what is scattered over small pages slower. Prints one line "disk IO DEPTH SECONDS MIB_PER_SECOND". */
#include "common.h"

#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define MOST 256
#define MEMORY ((size_t)64 << 20)

static int out_fd;
static size_t length; /* of a write */
static off_t size, next; /* of the file; where the next write begins */
static uint8_t *memory;

static uint8_t *data(void)
{
    return memory + (size_t)next % (MEMORY / length * length);
}

static void write_in_turn(void)
{
    while (next < size) {
        if (pwrite(out_fd, data(), length, next) != (ssize_t)length)
            die("pwrite");
        next += (off_t)length;
    }
}

static void submit(aio_context_t context, struct iocb *block)
{
    *block = (struct iocb){
        .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = (uint32_t)out_fd, .aio_buf = (uint64_t)(uintptr_t)data(),
        .aio_nbytes = length, .aio_offset = next, .aio_data = (uint64_t)(uintptr_t)block,
    };
    while (syscall(SYS_io_submit, context, 1L, &block) != 1)
        if (errno != EAGAIN && errno != EINTR)
            die("io_submit");
    next += (off_t)length;
}

static void write_side_by_side(aio_context_t context, int depth)
{
    static struct iocb blocks[MOST];
    int flying = 0;
    for (; flying < depth && next < size; flying++)
        submit(context, &blocks[flying]);
    while (flying) {
        struct io_event event;
        if (syscall(SYS_io_getevents, context, 1L, 1L, &event, NULL) != 1) {
            if (errno == EINTR)
                continue;
            die("io_getevents");
        }
        if (event.res != (int64_t)length) {
            errno = event.res < 0 ? (int)-event.res : EIO;
            die("write");
        }
        if (next < size)
            submit(context, (struct iocb *)(uintptr_t)event.data);
        else
            flying--;
    }
}

int main(int argc, char **argv)
{
    double start = now_s();
    const char *path = option(argc, argv, "--out", NULL), *io;
    size = atoll(option(argc, argv, "--size", NULL));
    length = (size_t)atoll(option(argc, argv, "--write", "1048576"));
    int depth = atoi(option(argc, argv, "--depth", "4"));
    errno = 0;
    if (!length || length % 4096 || length > MEMORY || size <= 0 || size % (off_t)length || depth < 1 || depth > MOST)
        die("--size must be whole writes, a write whole pages of at most 64 MiB, --depth 1 to 256");
    out_fd = open_output(path, size, &io);
    memory = aligned_alloc(2 << 20, MEMORY);
    if (!memory)
        die("aligned_alloc");
    madvise(memory, MEMORY, MADV_HUGEPAGE);
    for (size_t i = 0; i < MEMORY / 8; i++) /* nothing that a disk could make less of */
        ((uint64_t *)memory)[i] = (i + 1) * 0x9e3779b97f4a7c15u;
    aio_context_t context = 0;
    if (depth > 1 && syscall(SYS_io_setup, (long)depth, &context) == 0) {
        write_side_by_side(context, depth);
    } else {
        depth = 1;
        write_in_turn();
    }
    if (fdatasync(out_fd) || close(out_fd))
        die("fdatasync");
    double seconds = now_s() - start;
    printf("disk %s %d %.3f %.1f\n", io, depth, seconds, (double)size / (1 << 20) / seconds);
    return 0;
}
