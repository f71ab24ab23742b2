/* The branch predictor: emu/cycles/predictor.py in C, which has the reasons. */
#include "_predictor.h"

#include "_tracks.h"

enum { STRONG = 8, KNOWN = 1 << (TAG_BITS + 1) };

/* The directions that each table looks back on: of the last 64, and of the 64 before. */
static const uint64_t recent[TABLES] = {
    (1u << 6) - 1, (1u << 16) - 1, ((uint64_t)1 << 44) - 1, UINT64_MAX,
};
static const uint64_t older[TABLES] = {0, 0, 0, ((uint64_t)1 << (120 - 64)) - 1};

/* All of a history in so many bits, at least eight: halves onto each other, three times. */
static inline uint32_t fold(uint64_t history, int width)
{
    history ^= history >> 4 * width;
    history ^= history >> 2 * width;
    history ^= history >> width;
    return (uint32_t)history & ((1u << width) - 1);
}

/* The same of 128 directions: the upper half begins in the middle of a piece. */
static inline uint32_t fold_both(uint64_t history, uint64_t before, int width)
{
    uint32_t upper = fold(before, width), turn = 64 % (uint32_t)width;
    upper = upper << turn | upper >> ((uint32_t)width - turn);
    return (fold(history, width) ^ upper) & ((1u << width) - 1);
}

static int clamped(int value, int least, int most)
{
    return value < least ? least : value > most ? most : value;
}

static int counted(int counter, int taken)
{
    if ((counter >= 0) != taken && (counter > STRONG || counter < -STRONG))
        return counter / 2;
    return clamped(counter + (taken ? 1 : -1), -MOST - 1, MOST);
}

/* Give the branch the next longer history that has room, or make room for the next time. */
static void allot(Predictor *p, const uint32_t *places, const uint16_t *tags, int first, int taken)
{
    for (int n = first; n < TABLES; n++)
        if (!p->useful[places[n]]) {
            p->tags[places[n]] = tags[n];
            p->counters[places[n]] = taken ? 0 : -1;
            return;
        }
    for (int n = first; n < TABLES; n++)
        p->useful[places[n]]--;
}

static int by_history(Predictor *p, uint64_t word, int base, int taken)
{
    uint32_t places[TABLES];
    uint16_t tags[TABLES];
    int decides = -1, before = -1, expected = base >= 0;
    for (int n = 0; n < TABLES; n++) {
        uint64_t new = p->history & recent[n], old = p->older & older[n];
        uint32_t index = (uint32_t)(word ^ word >> TABLE_BITS) ^ fold_both(new, old, TABLE_BITS);
        uint32_t tag = fold_both(new, old, TAG_BITS);
        places[n] = (uint32_t)n << TABLE_BITS | (index & ((1 << TABLE_BITS) - 1));
        tags[n] = (uint16_t)((((uint32_t)word ^ tag ^ tag << 1) & (KNOWN - 1)) | KNOWN);
        if (p->tags[places[n]] == tags[n]) {
            before = decides;
            decides = n;
        }
    }
    if (decides >= 0) {
        int8_t *counter = &p->counters[places[decides]];
        uint8_t *useful = &p->useful[places[decides]];
        int other = before >= 0 ? p->counters[places[before]] >= 0 : expected;
        int own = *counter >= 0, fresh = (*counter == 0 || *counter == -1) && !*useful;
        expected = fresh ? other : own;
        if (own != other)
            *useful = (uint8_t)clamped(*useful + (own == taken ? 1 : -1), 0, own == taken ? 3 : 255);
        *counter = (int8_t)clamped(*counter + (taken ? 1 : -1), -4, 3);
    }
    if (expected != taken)
        allot(p, places, tags, decides + 1, taken);
    return expected != taken;
}

static int direction(Predictor *p, uint64_t word, int taken)
{
    int8_t *base = &p->base[word & ((1 << BASE_BITS) - 1)];
    int wrong = *base > -SURE && *base < SURE ? by_history(p, word, *base, taken)
                                              : (*base >= 0) != taken;
    *base = (int8_t)counted(*base, taken);
    predictor_note(p, taken);
    return wrong;
}

/* Where the last block led: whether that was a surprise. */
int predictor_resolve(Predictor *p, uint64_t address)
{
    uint64_t branch = p->behind - 4, *target;
    int wrong = 0;
    switch (p->end) {
    case CONDITIONAL:
        wrong = direction(p, branch >> 2, address != p->behind);
        break;
    case RETURN:
        p->top = (p->top - 1) % RETURNS;
        wrong = p->returns[p->top] != address;
        break;
    case CALL_INDIRECT:
    case JUMP_INDIRECT:
        target = &p->targets[(branch >> 2 ^ fold(p->history, TARGET_BITS)) &
                             ((1 << TARGET_BITS) - 1)];
        wrong = *target != address;
        *target = address;
        if (p->end == JUMP_INDIRECT)
            break;
        /* fall through */
    case CALL:
        p->returns[p->top % RETURNS] = p->behind;
        p->top = (p->top + 1) % RETURNS;
        break;
    default:
        return 0;
    }
    p->branches++;
    p->misses += (uint64_t)wrong;
    return wrong;
}
