/* Who called whom: the fast half of emu/cycles/tracks.py. */
#ifndef EMU_TRACKS_H
#define EMU_TRACKS_H

#include <stdint.h>

/* arch.py:BlockEnd. */
enum {
    RUNS_ON, JUMP, CONDITIONAL, CALL, CALL_INDIRECT, JUMP_INDIRECT, RETURN, EXCEPTION,
    EXCEPTION_RETURN
};
/* tracks.py:Kind and its limits. */
enum { OF_VCPU, OF_FUNCTION, OF_EXCEPTION, OF_TRAP };
enum { DEPTH = 512, MOST_FRAMES = 1 << 20, LOOK_BACK = 64 };

typedef struct {
    uint64_t key, calls, sixteenths, instructions;
    uint32_t kind, parent;
} Frame;

typedef struct {
    uint32_t frame;
    uint64_t back;
} Level;

/* What a vCPU is in. */
typedef struct {
    Level levels[DEPTH];
    uint64_t behind; /* the address behind its last block */
    uint32_t depth, end;
} Stack;

typedef struct {
    char on;
    Frame *frames;
    uint32_t *children; /* hash of (parent, kind, key): index of the frame plus one */
    uint32_t frame_count, frame_room, child_room, current;
    Stack **stacks;
    uint32_t stack_count;
    Stack *stack;
} Tracks;

int tracks_start(Tracks *t);
void tracks_end(Tracks *t);
int tracks_run_vcpu(Tracks *t, uint32_t index);
void tracks_reset_vcpu(Tracks *t);
void tracks_begin(Tracks *t, uint64_t address, uint32_t size, uint32_t end);
void tracks_exception(Tracks *t, uint64_t key, uint64_t back);
void tracks_trap(Tracks *t, uint64_t key, uint64_t sixteenths, int begins);

/* So much for the frame that runs; what is taken back wraps. */
static inline void tracks_spend(Tracks *t, uint64_t sixteenths, uint64_t instructions)
{
    t->frames[t->current].sixteenths += sixteenths;
    t->frames[t->current].instructions += instructions;
}

#endif
