/* The tree of frames: emu/cycles/tracks.py in C, with the same frames in the same order.
 *
 * Without memory no further frame is made, as beyond MOST_FRAMES.
 */
#include <stdlib.h>
#include <string.h>

#include "_tracks.h"

enum { FIRST_FRAMES = 256 };

static uint32_t add(Tracks *t, uint32_t kind, uint64_t key, uint32_t parent)
{
    t->frames[t->frame_count] = (Frame){.key = key, .kind = kind, .parent = parent};
    return t->frame_count++;
}

static uint32_t *place_of(Tracks *t, uint32_t parent, uint32_t kind, uint64_t key)
{
    uint64_t n = (key ^ (uint64_t)parent << 32 ^ kind) * 0x9E3779B97F4A7C15u >> 24;
    for (;; n++) {
        uint32_t *place = &t->children[n & (t->child_room - 1)];
        const Frame *f;
        if (!*place)
            return place;
        f = &t->frames[*place - 1];
        if (f->parent == parent && f->kind == kind && f->key == key)
            return place;
    }
}

/* Room for one more frame; 0, or -1 where there is none. */
static int grow(Tracks *t)
{
    Frame *frames;
    uint32_t *children;
    if (t->frame_count < t->frame_room)
        return 0;
    if (t->frame_count >= MOST_FRAMES)
        return -1;
    children = calloc((size_t)t->child_room * 2, sizeof *children);
    frames = realloc(t->frames, (size_t)t->frame_room * 2 * sizeof *frames);
    if (frames)
        t->frames = frames;
    if (!children || !frames) {
        free(children);
        return -1;
    }
    t->frame_room *= 2;
    t->child_room *= 2;
    free(t->children);
    t->children = children;
    for (uint32_t n = 0; n < t->frame_count; n++)
        if (t->frames[n].kind != OF_VCPU)
            *place_of(t, t->frames[n].parent, t->frames[n].kind, t->frames[n].key) = n + 1;
    return 0;
}

static uint32_t child(Tracks *t, uint32_t parent, uint32_t kind, uint64_t key)
{
    uint32_t *place = place_of(t, parent, kind, key);
    if (*place)
        return *place - 1;
    if (t->frame_count >= MOST_FRAMES || grow(t))
        return parent;
    place = place_of(t, parent, kind, key);
    *place = add(t, kind, key, parent) + 1;
    return *place - 1;
}

int tracks_start(Tracks *t)
{
    t->frames = calloc(FIRST_FRAMES, sizeof *t->frames);
    t->children = calloc(FIRST_FRAMES * 4, sizeof *t->children);
    t->frame_room = FIRST_FRAMES;
    t->child_room = FIRST_FRAMES * 4;
    if (!t->frames || !t->children || tracks_run_vcpu(t, 0))
        return -1;
    t->on = 1;
    return 0;
}

void tracks_end(Tracks *t)
{
    for (uint32_t n = 0; n < t->stack_count; n++)
        free(t->stacks[n]);
    free(t->stacks);
    free(t->frames);
    free(t->children);
    *t = (Tracks){0};
}

static int add_stack(Tracks *t, uint32_t index)
{
    Stack **stacks = t->stacks;
    if (index >= t->stack_count) {
        if (!(stacks = realloc(t->stacks, (index + 1) * sizeof *stacks)))
            return -1;
        memset(stacks + t->stack_count, 0, (index + 1 - t->stack_count) * sizeof *stacks);
        t->stacks = stacks;
        t->stack_count = index + 1;
    }
    if (stacks[index])
        return 0;
    if (grow(t) || !(stacks[index] = calloc(1, sizeof **stacks)))
        return -1;
    stacks[index]->levels[0].frame = add(t, OF_VCPU, index, t->frame_count);
    stacks[index]->depth = 1;
    return 0;
}

static void run(Tracks *t)
{
    t->current = t->stack->levels[t->stack->depth - 1].frame;
}

int tracks_run_vcpu(Tracks *t, uint32_t index)
{
    if (add_stack(t, index))
        return -1;
    t->stack = t->stacks[index];
    run(t);
    return 0;
}

static void push(Tracks *t, uint32_t kind, uint64_t key, uint64_t back)
{
    Stack *s = t->stack;
    if (s->depth < DEPTH) {
        uint32_t frame = child(t, s->levels[s->depth - 1].frame, kind, key);
        s->levels[s->depth++] = (Level){frame, back};
    }
    run(t);
    t->frames[t->current].calls++;
}

static void cut(Tracks *t, uint32_t depth)
{
    t->stack->depth = depth;
    run(t);
}

void tracks_reset_vcpu(Tracks *t)
{
    t->stack->end = RUNS_ON;
    cut(t, 1);
}

static void return_to(Tracks *t, uint64_t address)
{
    Stack *s = t->stack;
    uint32_t top = s->depth - 1, last = top > LOOK_BACK ? top - LOOK_BACK : 0;
    for (uint32_t depth = top; depth > last; depth--) {
        if (t->frames[s->levels[depth].frame].kind != OF_FUNCTION)
            return;
        if (s->levels[depth].back == address) {
            cut(t, depth);
            return;
        }
    }
}

static void leave_exception(Tracks *t)
{
    for (uint32_t depth = t->stack->depth - 1; depth > 0; depth--)
        if (t->frames[t->stack->levels[depth].frame].kind == OF_EXCEPTION) {
            cut(t, depth);
            return;
        }
}

/* Where the last block has led. */
static void arrive(Tracks *t, uint64_t address)
{
    Stack *s = t->stack;
    if (s->end == CALL || s->end == CALL_INDIRECT)
        push(t, OF_FUNCTION, address, s->behind);
    else if (s->end == RETURN)
        return_to(t, address);
    else if (s->end == EXCEPTION_RETURN)
        leave_exception(t);
}

void tracks_begin(Tracks *t, uint64_t address, uint32_t size, uint32_t end)
{
    arrive(t, address);
    t->stack->end = end;
    t->stack->behind = address + size;
}

void tracks_exception(Tracks *t, uint64_t key, uint64_t back)
{
    arrive(t, back);
    t->stack->end = RUNS_ON;
    push(t, OF_EXCEPTION, key, back);
}

void tracks_trap(Tracks *t, uint64_t key, uint64_t sixteenths, int begins)
{
    uint32_t frame = child(t, t->stack->levels[t->stack->depth - 1].frame, OF_TRAP, key);
    t->frames[frame].calls += (uint64_t)begins;
    t->frames[frame].sixteenths += sixteenths;
}
