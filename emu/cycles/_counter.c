/* The tables behind _counter.h: which translated block costs what, and what each has cost.
 *
 * A block is known by the place in Unicorn's translated code that calls the hook: another block,
 * or the same address with other bytes or in another address space, is translated to another
 * place. Where a place is used again, Unicorn has said before that it translates (`fresh`).
 */
#include <stdlib.h>

#include "_counter.h"

enum { FIRST_ROOM = 1 << 10, MOST_SITES = 1 << 20 };

int counter_start(Counter *c)
{
    c->sites = calloc(FIRST_ROOM, sizeof *c->sites);
    c->lines = calloc(FIRST_ROOM, sizeof *c->lines);
    c->site_mask = FIRST_ROOM - 1;
    c->line_room = FIRST_ROOM;
    c->on = c->sites && c->lines;
    return c->on ? 0 : -1;
}

void counter_end(Counter *c)
{
    for (uint64_t n = 0; n < c->line_room; n++)
        free(c->lines[n]);
    free(c->lines);
    free(c->sites);
    tracks_end(&c->tracks);
    *c = (Counter){0};
}

/* Forget all places; what was counted stays. */
void counter_forget(Counter *c)
{
    memset(c->sites, 0, (c->site_mask + 1) * sizeof *c->sites);
    c->site_count = c->fresh_count = 0;
}

/* How often blocks were left in each way, before the instruction at pc. */
void counter_ends(const Counter *c, uint64_t pc, uint64_t ends[])
{
    uint64_t rest = pc - c->block_start;
    for (uint64_t n = 0; n < c->line_room; n++)
        if (c->lines[n])
            ends[c->lines[n]->charge->end] += c->lines[n]->runs - c->lines[n]->cuts;
    if (c->line && rest < c->block_size && c->block_size == c->line->charge->words * WORD)
        ends[c->line->charge->end]--;
}

static Site *place_of(Site *sites, uint64_t mask, uintptr_t site)
{
    uint64_t n = counter_place(site);
    while (sites[n & mask].site && sites[n & mask].site != site)
        n++;
    return &sites[n & mask];
}

static int grow_sites(Counter *c)
{
    uint64_t mask = c->site_mask * 2 + 1;
    Site *larger;
    if (c->site_count * 2 <= c->site_mask)
        return 0;
    if (c->site_count >= MOST_SITES) {
        counter_forget(c);
        return 0;
    }
    if (!(larger = calloc(mask + 1, sizeof *larger)))
        return -1;
    for (uint64_t n = 0; n <= c->site_mask; n++)
        if (c->sites[n].site)
            *place_of(larger, mask, c->sites[n].site) = c->sites[n];
    free(c->sites);
    c->sites = larger;
    c->site_mask = mask;
    return 0;
}

static Line **line_of(Line **lines, uint64_t room, uint64_t address, const Charge *charge)
{
    uint64_t n = counter_hash(address ^ (uintptr_t)charge << 1);
    Line *line;
    while ((line = lines[n & (room - 1)]) && (line->address != address || line->charge != charge))
        n++;
    return &lines[n & (room - 1)];
}

static int grow_lines(Counter *c)
{
    Line **larger;
    if (c->line_count * 2 < c->line_room)
        return 0;
    if (!(larger = calloc(c->line_room * 2, sizeof *larger)))
        return -1;
    for (uint64_t n = 0; n < c->line_room; n++)
        if (c->lines[n])
            *line_of(larger, c->line_room * 2, c->lines[n]->address, c->lines[n]->charge) =
                c->lines[n];
    free(c->lines);
    c->lines = larger;
    c->line_room *= 2;
    return 0;
}

/* From now on the block at this place costs this; NULL without memory. */
Site *counter_keep(Counter *c, uintptr_t site, uint64_t address, uint64_t physical,
                   const Charge *charge)
{
    Site *s;
    Line **line;
    if (grow_sites(c) || grow_lines(c))
        return NULL;
    line = line_of(c->lines, c->line_room, address, charge);
    if (!*line) {
        if (!(*line = calloc(1, sizeof **line)))
            return NULL;
        (*line)->address = address;
        (*line)->charge = charge;
        c->line_count++;
    }
    s = place_of(c->sites, c->site_mask, site);
    c->site_count += !s->site;
    *s = (Site){site, *line, address, charge->words * WORD, charge->prefix[charge->words], physical};
    return s;
}
