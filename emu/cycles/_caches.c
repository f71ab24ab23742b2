/* The caches: emu/cycles/caches.py in C, which has the reasons. */
#include "_caches.h"

/* Whether a line is there; it is now, as the one used last. */
int caches_look(uint32_t *lines, Shape shape, uint32_t line)
{
    uint32_t *set = lines + (uint64_t)(line & (shape.sets - 1)) * shape.ways, carried = line + 1;
    for (uint32_t n = 0; n < shape.ways; n++) {
        uint32_t old = set[n];
        set[n] = carried;
        if (old == line + 1)
            return 1;
        carried = old;
    }
    return 0;
}

/* Where a line is found that the first level has not. */
static int level_of(const CachesInUse *u, uint32_t line)
{
    Caches *c = u->mine;
    if (u->shape->own.ways) {
        if (caches_look(c->own, u->shape->own, line))
            return OWN;
        c->l2_misses++;
    }
    if (caches_look(u->shared, u->shape->shared, line))
        return SHARED;
    c->l2_misses += !u->shape->own.ways;
    c->memory_reads++;
    return MEMORY;
}

/* Whether misses go on at a steady stride, so that the prefetcher was there before. */
static int is_stream(Caches *c, uint32_t line)
{
    MissStream *s;
    for (int n = 0; n < STREAMS; n++) {
        uint32_t stride = line - c->streams[n].last;
        if (stride + REACH > 2 * REACH || !stride)
            continue;
        s = &c->streams[n];
        if (stride != s->stride)
            s->length = 0;
        s->length = s->length < STEADY ? s->length + 1 : STEADY;
        s->stride = stride;
        s->last = line;
        return s->length == STEADY;
    }
    c->streams[c->oldest % STREAMS] = (MissStream){line, 0, 0};
    c->oldest = (c->oldest + 1) % STREAMS;
    return 0;
}

static uint64_t stall(const CachesInUse *u, int level, int ahead, uint64_t hidden, uint64_t now)
{
    Caches *c = u->mine;
    uint64_t latency = u->shape->latency[level], found = latency, due;
    if (ahead) {
        due = c->arrived + u->shape->transfer[level];
        found = due > now ? due - now : 0;
        found = found < latency ? found : latency;
    } else {
        found = latency > hidden ? latency - hidden : 0;
    }
    c->arrived = now + found;
    c->stalled += found;
    return found;
}

uint64_t caches_fill(const CachesInUse *u, uint32_t line, int is_write, uint64_t now,
                     uint64_t instructions, int chained)
{
    Caches *c = u->mine;
    const Hierarchy *h = u->shape;
    int level, ahead;
    if (caches_look(c->data, h->data, line))
        return 0;
    c->data_misses++;
    level = level_of(u, line);
    if (is_write)
        return 0;
    ahead = is_stream(c, line);
    if (h->window && !chained && !ahead) {
        ahead = instructions - c->missed < h->window;
        c->missed = ahead ? c->missed : instructions;
    }
    return stall(u, level, ahead, chained ? 0 : h->hidden, now);
}

uint64_t caches_fetch_lines(const CachesInUse *u, uint32_t first, uint32_t last, uint64_t now)
{
    Caches *c = u->mine;
    uint64_t stalled = 0;
    for (uint32_t line = first; line != last + 1; line++) {
        if (caches_look(c->code, u->shape->code, line))
            continue;
        c->code_misses++;
        stalled += stall(u, level_of(u, line), line == c->code_missed + 1, 0, now + stalled);
        c->code_missed = line;
    }
    return stalled;
}
