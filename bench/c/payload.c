/* payload FILE SIZE SEED: fills FILE with SIZE bytes (a multiple of 8) that do not repeat and do not compress.
 * Word i is splitmix64 of SEED and i: any machine makes the same file, at memory speed. */
#include "common.h"

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

int main(int argc, char **argv)
{
    static uint64_t words[1 << 17];
    errno = 0;
    if (argc != 4)
        die("usage: payload FILE SIZE SEED");
    uint64_t left = strtoull(argv[2], NULL, 10) / 8, state = mix(strtoull(argv[3], NULL, 10));
    int fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        die(argv[1]);
    while (left) {
        size_t count = left < (1 << 17) ? left : 1 << 17;
        for (size_t i = 0; i < count; i++)
            words[i] = mix(state += 0x9e3779b97f4a7c15u);
        const char *from = (const char *)words;
        for (size_t bytes = count * 8; bytes;) {
            ssize_t written = write(fd, from, bytes);
            if (written < 0)
                die("write");
            from += written;
            bytes -= (size_t)written;
        }
        left -= count;
    }
    return close(fd) ? 1 : 0;
}
