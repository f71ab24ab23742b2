/* A vCPU's branch predictor: predictor.py:Predictor, whose memory this is. */
#ifndef EMU_PREDICTOR_H
#define EMU_PREDICTOR_H

#include <stdint.h>

enum { TABLES = 4, BASE_BITS = 13, TABLE_BITS = 11, TAG_BITS = 8, TARGET_BITS = 9, RETURNS = 16 };
enum { SURE = 64, MOST = 127 };

typedef struct {
    uint64_t history, older, behind, branches, misses;
    uint32_t end, top;
    uint64_t returns[RETURNS], targets[1 << TARGET_BITS];
    int8_t base[1 << BASE_BITS];
    uint16_t tags[TABLES << TABLE_BITS];
    int8_t counters[TABLES << TABLE_BITS];
    uint8_t useful[TABLES << TABLE_BITS];
} Predictor;

int predictor_resolve(Predictor *p, uint64_t address);

static inline void predictor_note(Predictor *p, int taken)
{
    p->older = p->older << 1 | p->history >> 63;
    p->history = p->history << 1 | (uint64_t)taken;
}

/* The short way for what most branches are: as expected, by a counter that is sure of it. */
static inline int predictor_sure(Predictor *p, uint64_t address)
{
    int8_t *base = &p->base[(p->behind - 4) >> 2 & ((1 << BASE_BITS) - 1)];
    int taken = address != p->behind, counter = *base;
    if (taken ? counter < SURE : counter > -SURE)
        return 0;
    if (taken ? counter < MOST : counter > -MOST - 1)
        *base = (int8_t)(taken ? counter + 1 : counter - 1);
    predictor_note(p, taken);
    p->branches++;
    return 1;
}

#endif
