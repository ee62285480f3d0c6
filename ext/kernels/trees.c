#include "kernels.h"

#include <string.h>

/* Pieces of v2 torrents (BEP 52): SHA-256 of each 16 KiB leaf, as many side by side as the CPU has lanes whichever piece
 * they are of, then the trees above them level by level, all pieces together. Of a hybrid's pieces SHA-1 is advanced over
 * the same bytes in between, so that each comes from memory once: a step hashes about a leaf a lane, which fits the
 * second-level cache, by one algorithm and then by the other. */

enum { LEAF = 16384, HASH = 32, MAX_LEVELS = 64, JOBS = 256, STEP_LEAVES = 16 };

static unsigned char pads[MAX_LEVELS][HASH]; /* roots of 2**level missing leaves, which are zeros */

void btfast_trees_init(void)
{
    unsigned char pair[2 * HASH];
    for (int level = 1; level < MAX_LEVELS; level++) {
        HashJob job = {.data = pair, .length = sizeof pair};
        memcpy(pair, pads[level - 1], HASH);
        memcpy(pair + HASH, pads[level - 1], HASH);
        btfast_hash_jobs(BTFAST_SHA256, &job, 1, BTFAST_KERNEL_AUTO);
        memcpy(pads[level], job.digest, HASH);
    }
}

static size_t leaf_count(const TreeJob *tree)
{
    return (tree->length + LEAF - 1) / LEAF;
}

/* Hashes jobs whose digests belong at `places`. */
static int hash_into(HashJob *jobs, unsigned char **places, size_t n, int kernel)
{
    if (n && btfast_hash_jobs(BTFAST_SHA256, jobs, n, kernel))
        return -1;
    for (size_t i = 0; i < n; i++)
        memcpy(places[i], jobs[i].digest, HASH);
    return 0;
}

typedef struct {
    HashJob jobs[JOBS];
    unsigned char *places[JOBS];
    size_t n;
    int kernel;
} Gathered;

static int add(Gathered *gathered, const unsigned char *data, size_t length, unsigned char *place)
{
    gathered->jobs[gathered->n].data = data;
    gathered->jobs[gathered->n].length = length;
    gathered->places[gathered->n++] = place;
    if (gathered->n < JOBS)
        return 0;
    gathered->n = 0;
    return hash_into(gathered->jobs, gathered->places, JOBS, gathered->kernel);
}

static int flush(Gathered *gathered)
{
    size_t n = gathered->n;
    gathered->n = 0;
    return hash_into(gathered->jobs, gathered->places, n, gathered->kernel);
}

/* Adds leaves [first, first + most) of a tree. */
static int add_leaves(Gathered *gathered, const TreeJob *tree, size_t first, size_t most)
{
    size_t count = leaf_count(tree);
    for (size_t leaf = first; leaf < count && leaf - first < most; leaf++) {
        size_t rest = tree->length - leaf * LEAF;
        if (add(gathered, tree->data + leaf * LEAF, rest < LEAF ? rest : LEAF, tree->hashes + leaf * HASH))
            return -1;
    }
    return 0;
}

static int hash_leaves(Gathered *gathered, const TreeJob *trees, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (add_leaves(gathered, &trees[i], 0, SIZE_MAX))
            return -1;
    return flush(gathered);
}

/* Both algorithms over at most MAX_LANES pieces, step by step. */
static int hash_both(Gathered *gathered, TreeJob *trees, size_t n, int kernel)
{
    HashState states[BTFAST_MAX_LANES];
    UpdateJob updates[BTFAST_MAX_LANES];
    const size_t leaves = n < STEP_LEAVES ? STEP_LEAVES / n : 1, step = leaves * LEAF;
    size_t alive = n;
    for (size_t i = 0; i < n; i++)
        btfast_state_start(BTFAST_SHA1, &states[i]);
    for (size_t at = 0; alive; at += step) {
        alive = 0;
        for (size_t i = 0; i < n; i++) {
            if (at >= trees[i].whole)
                continue;
            size_t rest = trees[i].whole - at;
            updates[alive].state = &states[i];
            updates[alive].data = trees[i].data + at;
            updates[alive++].length = rest < step ? rest : step;
        }
        if (alive && btfast_update_jobs(BTFAST_SHA1, updates, alive, kernel))
            return -1;
        for (size_t i = 0; i < n; i++)
            if (add_leaves(gathered, &trees[i], at / LEAF, leaves))
                return -1;
        if (flush(gathered))
            return -1;
    }
    for (size_t i = 0; i < n; i++)
        btfast_state_digest(BTFAST_SHA1, &states[i], trees[i].sha1);
    return 0;
}

/* A level of all trees becomes the next one, in place: the hash at 2i and its neighbour make that at i. */
static int raise_levels(Gathered *gathered, TreeJob *trees, size_t n)
{
    int again = 1;
    for (int level = 0; again; level++) {
        again = 0;
        for (size_t i = 0; i < n; i++) {
            const size_t below = (size_t)1 << level;
            if (trees[i].width <= below)
                continue;
            again = 1;
            const size_t count = (leaf_count(&trees[i]) + below - 1) / below;
            if (count & 1)
                memcpy(trees[i].hashes + count * HASH, pads[level], HASH);
            for (size_t pair = 0; 2 * pair < count; pair++) {
                const unsigned char *both = trees[i].hashes + 2 * pair * HASH;
                if (add(gathered, both, 2 * HASH, trees[i].hashes + pair * HASH))
                    return -1;
            }
        }
        if (flush(gathered))
            return -1;
    }
    for (size_t i = 0; i < n; i++)
        memcpy(trees[i].root, trees[i].hashes, HASH);
    return 0;
}

int btfast_tree_jobs(TreeJob *trees, size_t n, int both, int kernel)
{
    Gathered gathered;
    gathered.n = 0;
    gathered.kernel = kernel;
    if (!both)
        return hash_leaves(&gathered, trees, n) || raise_levels(&gathered, trees, n) ? -1 : 0;
    for (size_t first = 0; first < n; first += BTFAST_MAX_LANES) {
        const size_t some = n - first < BTFAST_MAX_LANES ? n - first : BTFAST_MAX_LANES;
        if (hash_both(&gathered, trees + first, some, kernel))
            return -1;
    }
    return raise_levels(&gathered, trees, n);
}
