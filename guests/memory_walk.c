/*
 * memory_walk: how long a load waits, by the size of what is walked over.
 *
 * random: as tinymembench does it, each address is drawn from the value loaded before (which is 0,
 * but no core knows), all over a buffer; what is printed is the time beyond that of a buffer of one
 * line, so beyond the first level's. stride: as lmbench's lat_mem_rd, a ring of pointers 128 bytes
 * apart, backwards; what is printed is the time of a load. Cycles in hundredths.
 * emu/cycles/cores/hierarchies.py has what real cores take, tools/accuracy.py compares.
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0 console~"memory_walk: done"
#include "lib/guest.h"

#define SMALLEST (16ul << 10)
#define LARGEST (8ul << 20)
#define LINE 64
#define STRIDE 128
#define LOADS 16384

static u64 buffer[LARGEST / sizeof(u64)] __attribute__((aligned(4096)));

/* x0 = loads, x1 = buffer, x2 = its lines - 1; returns the last draw. */
u64 walk_randomly(u64 loads, const u64 *from, u64 mask, u64 draw);
/* x0 = loads, x1 = where to begin. */
void walk_along(u64 loads, const u64 *from);

__asm__("    .pushsection .text.walks, \"ax\"\n    .balign 64\n"
        "    .type walk_randomly, %function\n"
        "walk_randomly:\n"
        "    mov x4, #0x4e6d\n    movk x4, #0x41c6, lsl #16\n    mov x5, #12345\n"
        "    .balign 64\n"
        "1:  madd x3, x3, x4, x5\n"
        "    lsr x6, x3, #16\n"
        "    and x6, x6, x2\n"
        "    lsl x6, x6, #6\n"
        "    ldr x7, [x1, x6]\n"
        "    add x3, x3, x7\n"
        "    subs x0, x0, #1\n    b.ne 1b\n"
        "    mov x0, x3\n    ret\n"
        "    .size walk_randomly, . - walk_randomly\n"
        "    .type walk_along, %function\n    .balign 64\n"
        "walk_along:\n"
        "1:  .rept 64\n    ldr x1, [x1]\n    .endr\n"
        "    subs x0, x0, #64\n    b.ne 1b\n    ret\n"
        "    .size walk_along, . - walk_along\n"
        "    .popsection\n");

static void start_counter(void)
{
    u64 enable = 1 << 6 | 1 << 2 | 1 << 0;      /* PMCR_EL0.LC, C, E: DDI 0487, D19.5 */
    u64 cycle_counter = 1u << 31;

    __asm__ volatile("msr pmcr_el0, %0\n    msr pmcntenset_el0, %1\n    isb"
                     : : "r"(enable), "r"(cycle_counter));
}

static u64 cycles(void)
{
    u64 now;

    __asm__ volatile("isb\n    mrs %0, pmccntr_el0\n    isb" : "=r"(now) : : "memory");
    return now;
}

/* Cycles of so many random loads, when the caches have what they would have. */
static u64 random_cycles(u64 size, u64 *draw)
{
    u64 lines = size / LINE, before;

    for (u64 n = 0; n < lines; n++)
        (void)*(volatile u64 *)&buffer[n * LINE / sizeof(u64)];
    *draw = walk_randomly(lines + 1, buffer, lines - 1, *draw);
    before = cycles();
    *draw = walk_randomly(LOADS, buffer, lines - 1, *draw);
    return cycles() - before;
}

static void clear(u64 size)
{
    for (u64 n = 0; n < size / sizeof(u64); n += STRIDE / sizeof(u64))
        buffer[n] = 0;
}

static u64 stride_cycles(u64 size)
{
    u64 step = STRIDE / sizeof(u64), words = size / sizeof(u64), before;

    for (u64 n = 0; n < words; n += step)
        buffer[n] = (u64)&buffer[n ? n - step : words - step];
    walk_along(size / STRIDE, buffer);
    before = cycles();
    walk_along(LOADS, buffer);
    before = cycles() - before;
    clear(size);
    return before;
}

static u64 more_than(u64 least, u64 total)
{
    return total > least ? total - least : 0;
}

static void print(const char *how, u64 size, u64 total)
{
    u64 hundredths = total * 100 / LOADS;

    printf("%-6s %4llu KiB %4llu.%02llu\n", how, size >> 10, hundredths / 100, hundredths % 100);
}

int main(const void *dtb)
{
    u64 draw = 1, least;

    (void)dtb;
    start_counter();
    random_cycles(LINE, &draw);
    least = random_cycles(LINE, &draw);
    for (u64 size = SMALLEST; size <= LARGEST; size *= 2)
        print("random", size, more_than(least, random_cycles(size, &draw)));
    for (u64 size = SMALLEST; size <= LARGEST; size *= 2)
        print("stride", size, stride_cycles(size));
    puts("memory_walk: done\n");
    return 0;
}
