/* A vCPU's caches, and those that vCPUs share: caches.py, whose memory this is. */
#ifndef EMU_CACHES_H
#define EMU_CACHES_H

#include <stdint.h>

enum { LINE_BITS = 6, L1_LINES = 1024, L2_LINES = 16384, STREAMS = 4, REACH = 4, STEADY = 2 };
enum { OWN, SHARED, MEMORY, LEVELS };

typedef struct {
    uint32_t sets, ways; /* no ways: there is none */
} Shape;

/* caches.py:Hierarchy. Times in sixteenths of a cycle. */
typedef struct {
    uint64_t base; /* where memory begins */
    Shape data, code, own, shared;
    uint32_t latency[LEVELS], transfer[LEVELS], window, hidden;
} Hierarchy;

typedef struct {
    uint32_t last, stride, length;
} MissStream;

/* caches.py:Caches. */
typedef struct {
    uint64_t accesses, data_misses, code_misses, l2_misses, memory_reads, stalled;
    uint64_t arrived, missed;
    uint32_t line, fetched, code_missed, oldest;
    MissStream streams[STREAMS];
    uint32_t data[L1_LINES], code[L1_LINES], own[L2_LINES];
} Caches;

/* What the running vCPU uses; `mine` NULL for none. */
typedef struct {
    Caches *mine;
    const Hierarchy *shape;
    uint32_t *shared;
} CachesInUse;

uint64_t caches_fill(const CachesInUse *u, uint32_t line, int is_write, uint64_t now,
                     uint64_t instructions, int chained);
uint64_t caches_fetch_lines(const CachesInUse *u, uint32_t first, uint32_t last, uint64_t now);
int caches_look(uint32_t *lines, Shape shape, uint32_t line);

/* Sixteenths that an access stalls. */
static inline uint64_t caches_access(const CachesInUse *u, uint64_t address, int is_write,
                                     uint64_t now, uint64_t instructions, int chained)
{
    Caches *c = u->mine;
    uint32_t line = (uint32_t)(address >> LINE_BITS);
    c->accesses++;
    if (line == c->line)
        return 0;
    c->line = line;
    if (c->data[(line & (u->shape->data.sets - 1)) * u->shape->data.ways] == line + 1)
        return 0;
    return caches_fill(u, line, is_write, now, instructions, chained);
}

/* Sixteenths that the fetch of a block stalls. */
static inline uint64_t caches_fetch(const CachesInUse *u, uint64_t address, uint32_t size,
                                    uint64_t now)
{
    uint32_t first = (uint32_t)(address >> LINE_BITS);
    uint32_t last = (uint32_t)((address + size - 1) >> LINE_BITS);
    if (first == last && first == u->mine->fetched)
        return 0;
    u->mine->fetched = last;
    return caches_fetch_lines(u, first, last, now);
}

#endif
