/* Instructions and cycles, and where they went: the fast half of emu/cycles/counter.py.
 *
 * The part that every block passes is here; what is rarer is in _counter.c.
 */
#ifndef EMU_COUNTER_H
#define EMU_COUNTER_H

#include <stdint.h>
#include <string.h>

#include "_caches.h"
#include "_predictor.h"
#include "_tracks.h"

enum { WORD = 4, SIXTEENTHS = 16 };
#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)
/* What a block costs: block_costs.py:Charge. */
typedef struct {
    uint32_t words, end, unknown, chained;
    uint32_t prefix[]; /* words + 1 of them: sixteenths of a cycle before each instruction */
} Charge;

/* One block where it lies: how often it began, and what was taken back of it or came on top. */
typedef struct {
    uint64_t address;
    const Charge *charge;
    uint64_t runs, refunded, instructions_refunded, added;
    uint64_t cuts; /* runs that did not reach its end */
} Line;

/* A place in Unicorn's translated code: it stands for one block as long as it is not written anew. */
typedef struct {
    uintptr_t site;
    Line *line;
    uint64_t address;
    uint32_t size, total; /* of the block in bytes, of its cost in sixteenths */
    uint64_t physical;    /* address; only where there are caches */
} Site;

typedef struct {
    uint64_t time; /* sixteenths of a cycle */
    uint64_t instructions, block_start;
    Line *line; /* of the current block; NULL: an instruction is a cycle */
    Site *sites;
    uint64_t site_mask;
    uint32_t block_size, fresh_count; /* blocks translated since a block began */
    char on;
    Predictor *predictor; /* of the vCPU that runs; NULL for none */
    uint64_t penalty;     /* sixteenths for a misprediction */
    CachesInUse caches;
    Tracks tracks;
    uint64_t fresh; /* the address of the last of them */
    uint64_t last_cost, exceptions;
    Line **lines;
    uint64_t site_count, line_count, line_room; /* rooms are powers of two */
} Counter;

int counter_start(Counter *c);
void counter_end(Counter *c);
void counter_forget(Counter *c);
void counter_ends(const Counter *c, uint64_t pc, uint64_t ends[]);
Site *counter_keep(Counter *c, uintptr_t site, uint64_t address, uint64_t physical,
                   const Charge *charge);

static inline uint64_t counter_hash(uint64_t value)
{
    return (value ^ value >> 32) * 0x9E3779B97F4A7C15u >> 20; /* Fibonacci hashing: 2^64 / phi */
}

/* Where a place is looked for first: translated blocks are some hundred bytes apart. */
static inline uint64_t counter_place(uintptr_t site)
{
    return site >> 5 ^ site >> 14;
}

/* What is known of the block at this place; NULL where it has to be looked at first. */
static inline Site *counter_find(Counter *c, uintptr_t site, uint64_t address, uint32_t size)
{
    uint64_t n = counter_place(site);
    Site *s = &c->sites[n & c->site_mask];
    if (UNLIKELY(c->fresh_count))
        return NULL;
    while (UNLIKELY(s->site != site)) {
        if (!s->site)
            return NULL;
        s = &c->sites[++n & c->site_mask];
    }
    return LIKELY(s->address == address && s->size == size) ? s : NULL;
}

static inline uint64_t counter_cycles(const Counter *c)
{
    return c->time / SIXTEENTHS;
}

/* What comes next is not where the last block led. */
static inline void counter_cut(Counter *c)
{
    if (c->predictor)
        c->predictor->end = RUNS_ON;
    if (c->tracks.on)
        c->tracks.stack->end = RUNS_ON;
}

/* Let time pass above EL1; `key` says for what. */
static inline void counter_trap(Counter *c, uint64_t key, uint64_t sixteenths, int begins)
{
    c->time += sixteenths;
    if (c->tracks.on)
        tracks_trap(&c->tracks, key, sixteenths, begins);
}

/* An exception is taken, which costs so much. */
static inline void counter_exception(Counter *c, uint64_t key, uint64_t back, uint64_t sixteenths)
{
    c->time += sixteenths;
    c->exceptions++;
    if (c->predictor)
        c->predictor->end = RUNS_ON;
    if (c->tracks.on) {
        tracks_exception(&c->tracks, key, back);
        tracks_spend(&c->tracks, sixteenths, 0);
    }
}

/* Where the last block led, and whether that was expected. */
static inline void counter_follow(Counter *c, uint64_t address, uint32_t size, uint32_t end,
                                  uint64_t cost)
{
    Predictor *p = c->predictor;
    uint64_t penalty = 0;
    if (p) {
        if (p->end > JUMP && !(p->end == CONDITIONAL && predictor_sure(p, address)) &&
            predictor_resolve(p, address))
            penalty = c->penalty;
        p->end = end;
        p->behind = address + size;
        c->time += penalty;
        if (c->line)
            c->line->added += penalty;
    }
    if (UNLIKELY(c->tracks.on)) {
        tracks_begin(&c->tracks, address, size, end);
        tracks_spend(&c->tracks, cost + penalty, size / WORD);
    }
}

/* The current block waits for code or data. */
static inline void counter_stall(Counter *c, uint64_t sixteenths)
{
    c->time += sixteenths;
    if (c->line)
        c->line->added += sixteenths;
    if (c->tracks.on)
        tracks_spend(&c->tracks, sixteenths, 0);
}

static inline void counter_access(Counter *c, uint64_t address, int is_write)
{
    uint64_t stalled;
    if (address < c->caches.shape->base)
        return;
    stalled = caches_access(&c->caches, address, is_write, c->time, c->instructions,
                            c->line && c->line->charge->chained);
    if (stalled)
        counter_stall(c, stalled);
}

/* Begin a block; `site` NULL where an instruction is a cycle. */
static inline void counter_begin(Counter *c, uint64_t address, uint32_t size, Site *site)
{
    c->block_start = address;
    c->block_size = size;
    c->instructions += size / WORD;
    if (LIKELY(site)) {
        c->line = site->line;
        c->line->runs++;
        c->time += site->total;
    } else {
        c->line = NULL;
        c->time += size / WORD * SIXTEENTHS;
    }
    if (c->tracks.on || c->predictor)
        counter_follow(c, address, size, site ? site->line->charge->end : RUNS_ON,
                       site ? site->total : size / WORD * SIXTEENTHS);
    if (UNLIKELY(c->caches.mine)) {
        uint64_t place = site ? site->physical : address;
        uint64_t stalled = caches_fetch(&c->caches, place, size, c->time);
        if (stalled)
            counter_stall(c, stalled);
    }
}

/* Sixteenths from the instruction at `pc` to the end of the current block; 0 outside it. */
static inline uint64_t counter_rest(const Counter *c, uint64_t pc)
{
    uint64_t inside = pc - c->block_start;
    if (inside > c->block_size)
        return 0;
    if (!c->line)
        return (c->block_size - inside) / WORD * SIXTEENTHS;
    return c->line->charge->prefix[c->block_size / WORD] - c->line->charge->prefix[inside / WORD];
}

/* Whole cycles that had passed, and instructions retired, before the one at pc. */
static inline uint64_t counter_cycles_at(const Counter *c, uint64_t pc)
{
    return (c->time - counter_rest(c, pc)) / SIXTEENTHS;
}

static inline uint64_t counter_instructions_at(const Counter *c, uint64_t pc)
{
    uint64_t inside = pc - c->block_start;
    return c->instructions - (inside > c->block_size ? 0 : (c->block_size - inside) / WORD);
}

/* Take back the part of the current block that starts at pc. */
static inline void counter_refund(Counter *c, uint64_t pc)
{
    uint64_t rest = counter_rest(c, pc), inside = pc - c->block_start, words;
    if (inside > c->block_size)
        return;
    words = (c->block_size - inside) / WORD;
    c->time -= rest;
    c->instructions -= words;
    if (c->line) {
        c->line->refunded += rest;
        c->line->instructions_refunded += words;
        c->line->cuts += words && inside + WORD * words == c->line->charge->words * WORD;
    }
    c->block_size = (uint32_t)inside;
    if (words)
        counter_cut(c);
    if (c->tracks.on)
        tracks_spend(&c->tracks, -rest, -words);
}

/* What the last instruction of the current block cost. */
static inline uint64_t counter_last_cost(const Counter *c)
{
    return c->block_size ? counter_rest(c, c->block_start + c->block_size - WORD) : c->last_cost;
}

static inline void counter_take_back_last(Counter *c)
{
    if (c->block_size) {
        counter_refund(c, c->block_start + c->block_size - WORD);
    } else {
        counter_cut(c);
        c->time -= c->last_cost;
        c->instructions--;
        if (c->tracks.on)
            tracks_spend(&c->tracks, -c->last_cost, (uint64_t)-1);
    }
}

#endif
