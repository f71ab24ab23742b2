/*
 * latency_loops: small loops whose cycles per operation are known from real cores, for checking
 * core models (emu/cycles/cores) the way lmbench's lat_ops checks a machine: chains for latency,
 * forwarding between kinds of operation, independent operations for throughput.
 *
 * Each loop runs its operation 32 times a turn between two reads of PMCCNTR_EL0, and prints cycles
 * per operation in hundredths. What a turn's SUBS and B.NE cost is in there: up to one cycle in 32
 * operations, and the bubble of a taken branch where the core has one. tools/accuracy.py knows
 * what real cores take:
 *
 *                        Cortex-A53  Cortex-A72   (Texas Instruments' SDK guides, lmbench lat_ops,
 *   add                      1           1         as cycles; load from L1: lat_mem_rd)
 *   mul, 32 / 64 bits     4.3 / 5.0   3.0 / 5.0
 *   sdiv, 32 / 64 bits    6.0 / 9.5   8.0 / 6.0
 *   load                     3           4
 *   fadd, fmul               4           4
 *   fdiv, single / double  13 / 22     11 / 18
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0 console~"latency_loops: done"
#include "lib/guest.h"

#define TURNS 200

#define STRING_(x) #x
#define STRING(x) STRING_(x)

/*
 * Kind, name, how often a turn, operations in one body, set-up, body. x1 is a pointer to itself, x2
 * and x3 are odd, x4 to x11 are pointers to spare memory; d0 and d1 are 1.0, s2 and s3 are 1.0.
 */
#define LOOPS(X) \
    X(latency, add, 32, 1, "", "add x2, x2, x3") \
    X(latency, add_shifted, 32, 1, "", "add x2, x3, x2, lsl #3") \
    X(latency, add_extended, 32, 1, "", "add x2, x3, w2, uxtw #2") \
    X(latency, lsl, 32, 1, "", "lsl x2, x2, #1") \
    X(latency, bitfield, 32, 1, "", "ubfx x2, x2, #1, #40") \
    X(latency, flags_csel, 16, 2, "", "cmp x2, x3\n csel x2, x2, x3, ne") \
    X(latency, adcs, 32, 1, "", "adcs x2, x2, x3") \
    X(latency, mul_32, 32, 1, "", "mul w2, w2, w3") \
    X(latency, mul_64, 32, 1, "", "mul x2, x2, x3") \
    X(latency, umulh, 32, 1, "", "umulh x2, x2, x3") \
    X(latency, madd_accumulator, 32, 1, "", "madd x2, x3, x3, x2") \
    X(latency, madd_factor, 32, 1, "", "madd x2, x2, x3, x3") \
    X(latency, sdiv_32, 32, 1, "", "sdiv w2, w2, w3") \
    X(latency, sdiv_64, 32, 1, "", "sdiv x2, x2, x3") \
    X(latency, load, 32, 1, "", "ldr x1, [x1]") \
    X(latency, load_indexed, 32, 1, "mov x3, #0", "ldr x1, [x1, x3]") \
    X(latency, load_add, 16, 2, "mov x3, #0", "ldr x1, [x1]\n add x1, x1, x3") \
    X(latency, load_fp, 16, 2, "", "ldr d0, [x1]\n fmov x1, d0") \
    X(latency, store_load, 16, 2, "", "str x2, [x4]\n ldr x2, [x4]") \
    X(latency, post_index, 32, 1, "", "ldr x2, [x4], #0") \
    X(latency, clz, 32, 1, "", "clz x2, x2") \
    X(latency, rbit, 32, 1, "", "rbit x2, x2") \
    X(latency, fadd_32, 32, 1, "", "fadd s2, s2, s3") \
    X(latency, fadd_64, 32, 1, "", "fadd d0, d0, d1") \
    X(latency, fmul_32, 32, 1, "", "fmul s2, s2, s3") \
    X(latency, fmul_64, 32, 1, "", "fmul d0, d0, d1") \
    X(latency, fmadd_accumulator, 32, 1, "", "fmadd d0, d1, d1, d0") \
    X(latency, fmadd_factor, 32, 1, "", "fmadd d0, d0, d1, d1") \
    X(latency, fdiv_32, 32, 1, "", "fdiv s2, s2, s3") \
    X(latency, fdiv_64, 32, 1, "", "fdiv d0, d0, d1") \
    X(latency, fsqrt_64, 32, 1, "", "fsqrt d0, d0") \
    X(latency, fmov_there_and_back, 16, 2, "", "fmov d0, x2\n fmov x2, d0") \
    X(latency, simd_add, 32, 1, "", "add v0.4s, v0.4s, v1.4s") \
    X(latency, simd_mla, 32, 1, "", "mla v0.4s, v1.4s, v1.4s") \
    X(throughput, add, 4, 8, "", \
      "add x4, x4, #1\n add x5, x5, #1\n add x6, x6, #1\n add x7, x7, #1\n" \
      "add x8, x8, #1\n add x9, x9, #1\n add x10, x10, #1\n add x11, x11, #1") \
    X(throughput, add_shifted, 4, 8, "", \
      "add x4, x2, x3, lsl #4\n add x5, x2, x3, lsl #5\n add x6, x2, x3, lsl #6\n" \
      "add x7, x2, x3, lsl #7\n add x8, x2, x3, lsl #8\n add x9, x2, x3, lsl #9\n" \
      "add x10, x2, x3, lsl #10\n add x11, x2, x3, lsl #11") \
    X(throughput, mov, 4, 8, "", \
      "mov x4, x2\n mov x5, x3\n mov x6, x2\n mov x7, x3\n" \
      "mov x8, x2\n mov x9, x3\n mov x10, x2\n mov x11, x3") \
    X(throughput, zero, 4, 8, "", \
      "mov x4, #0\n mov x5, #0\n mov x6, #0\n mov x7, #0\n" \
      "mov x8, #0\n mov x9, #0\n mov x10, #0\n mov x11, #0") \
    X(throughput, mul_32, 4, 8, "", \
      "mul w4, w2, w3\n mul w5, w2, w3\n mul w6, w2, w3\n mul w7, w2, w3\n" \
      "mul w8, w2, w3\n mul w9, w2, w3\n mul w10, w2, w3\n mul w11, w2, w3") \
    X(throughput, mul_64, 4, 8, "", \
      "mul x4, x2, x3\n mul x5, x2, x3\n mul x6, x2, x3\n mul x7, x2, x3\n" \
      "mul x8, x2, x3\n mul x9, x2, x3\n mul x10, x2, x3\n mul x11, x2, x3") \
    X(throughput, load, 4, 8, "", \
      "ldr x4, [x1]\n ldr x5, [x1]\n ldr x6, [x1]\n ldr x7, [x1]\n" \
      "ldr x8, [x1]\n ldr x9, [x1]\n ldr x10, [x1]\n ldr x11, [x1]") \
    X(throughput, load_pair, 8, 4, "", \
      "ldp x4, x5, [x1]\n ldp x6, x7, [x1]\n ldp x8, x9, [x1]\n ldp x10, x11, [x1]") \
    X(throughput, store, 8, 4, "", \
      "str x2, [x4]\n str x2, [x5]\n str x2, [x6]\n str x2, [x7]") \
    X(throughput, load_and_add, 4, 8, "", \
      "ldr x4, [x1]\n add x5, x2, x3\n ldr x6, [x1]\n add x7, x2, x3\n" \
      "ldr x8, [x1]\n add x9, x2, x3\n ldr x10, [x1]\n add x11, x2, x3") \
    X(throughput, fadd_64, 4, 8, "", \
      "fadd d16, d0, d1\n fadd d17, d0, d1\n fadd d18, d0, d1\n fadd d19, d0, d1\n" \
      "fadd d20, d0, d1\n fadd d21, d0, d1\n fadd d22, d0, d1\n fadd d23, d0, d1") \
    X(throughput, fmul_64, 4, 8, "", \
      "fmul d16, d0, d1\n fmul d17, d0, d1\n fmul d18, d0, d1\n fmul d19, d0, d1\n" \
      "fmul d20, d0, d1\n fmul d21, d0, d1\n fmul d22, d0, d1\n fmul d23, d0, d1") \
    X(throughput, simd_add, 4, 8, "", \
      "add v16.4s, v0.4s, v1.4s\n add v17.4s, v0.4s, v1.4s\n add v18.4s, v0.4s, v1.4s\n" \
      "add v19.4s, v0.4s, v1.4s\n add v20.4s, v0.4s, v1.4s\n add v21.4s, v0.4s, v1.4s\n" \
      "add v22.4s, v0.4s, v1.4s\n add v23.4s, v0.4s, v1.4s") \
    X(throughput, branch, 32, 1, "", "b 2f\n 2:") \
    X(throughput, nop, 32, 1, "", "nop")

/* x0 = turns, x1 = where to point; a leaf that may change what a function may change. */
#define CODE(kind, name, repeat, operations, setup, body) \
    __asm__("    .pushsection .text.loops, \"ax\"\n" \
            "    .arch_extension fp\n    .arch_extension simd\n    .balign 64\n" \
            "    .type " STRING(kind##_##name) ", %function\n" \
            STRING(kind##_##name) ":\n" \
            "    add x4, x1, #64\n    add x5, x1, #72\n    add x6, x1, #80\n    add x7, x1, #88\n" \
            "    mov x2, #12345\n    mov x3, #7\n" \
            "    fmov d0, #1.0\n    fmov d1, #1.0\n    fmov s2, #1.0\n    fmov s3, #1.0\n" \
            "    str x1, [x1]\n    str x1, [x1, #8]\n" \
            setup "\n" \
            "    .balign 64\n" \
            "1:  .rept " STRING(repeat) "\n " body "\n    .endr\n" \
            "    subs x0, x0, #1\n    b.ne 1b\n    ret\n" \
            "    .size " STRING(kind##_##name) ", . - " STRING(kind##_##name) "\n" \
            "    .popsection\n"); \
    void kind##_##name(u64 turns, void *memory);
LOOPS(CODE)

#define ENTRY(kind, name, repeat, operations, setup, body) \
    {#kind, #name, kind##_##name, (repeat) * (operations)},
static const struct loop {
    const char *kind, *name;
    void (*run)(u64 turns, void *memory);
    u32 operations;
} loops[] = {LOOPS(ENTRY)};

static u64 memory[32] __attribute__((aligned(64)));

static void start_counter(void)
{
    u64 enable = 1 << 6 | 1 << 2 | 1 << 0;      /* PMCR_EL0.LC, C, E: DDI 0487, D19.5 */
    u64 cycle_counter = 1u << 31;

    __asm__ volatile("msr pmcr_el0, %0\n    msr pmcntenset_el0, %1\n    isb"
                     : : "r"(enable), "r"(cycle_counter));
}

static void enable_fp(void)
{
    __asm__ volatile("msr cpacr_el1, %0\n    isb" : : "r"(3ul << 20));  /* FPEN: no trap */
}

static u64 cycles(void)
{
    u64 now;

    __asm__ volatile("isb\n    mrs %0, pmccntr_el0\n    isb" : "=r"(now) : : "memory");
    return now;
}

static u64 measure(const struct loop *loop, u64 turns)
{
    u64 before = cycles();

    loop->run(turns, memory);
    return cycles() - before;
}

int main(const void *dtb)
{
    (void)dtb;
    enable_fp();
    start_counter();
    for (size_t n = 0; n < LENGTH(loops); n++) {
        const struct loop *loop = &loops[n];
        /* The longer run less the shorter: the call, set-up and reading drop out. */
        u64 hundredths = (measure(loop, 2 * TURNS) - measure(loop, TURNS)) * 100
                         / ((u64)TURNS * loop->operations);

        printf("%-10s %-20s %4llu.%02llu\n", loop->kind, loop->name, hundredths / 100,
               hundredths % 100);
    }
    puts("latency_loops: done\n");
    return 0;
}
