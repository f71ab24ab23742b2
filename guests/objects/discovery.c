/*
 * A project's discovery source, as an object file: the functions that `Vm.call` is tested with.
 *
 * It is compiled and not linked. `report` is nobody's and must be stubbed; `note` may be missing;
 * corners.S has the rest. Nothing here is run as a guest.
 */
#include "../lib/guest.h"

extern s32 report(const char *name, u64 value);     /* undefined: a stub's */
extern void note(u64 value) __attribute__((weak));  /* undefined and weak: zero, or a stub's */

struct finding { const char *name; u64 value; };

u8 asked;                                   /* .bss */
unsigned short last_owner = 0xFFFF;         /* .data */
u32 questions;
u64 started_at;
struct finding findings[4];
__attribute__((common)) u64 common_total;   /* a COMMON symbol */
const char greeting[] = "hello, object";

static u64 ask(u64 fid, u64 x1) {
    register u64 r0 __asm__("x0") = fid;
    register u64 r1 __asm__("x1") = x1;
    __asm__ volatile("hvc #0" : "+r"(r0), "+r"(r1)::"x2", "x3", "memory");
    asked = 1, questions++, last_owner = fid >> 24 & 0x3F;
    return r0;
}

u64 psci_version(void) { return ask(PSCI_VERSION, 0); }

u64 smccc_discover(u64 least) {
    if ((s32)ask(PSCI_VERSION, 0) < PSCI_1_0 || (s32)ask(PSCI_FEATURES, SMCCC_VERSION) < 0)
        return SMCCC_1_0;
    u64 version = ask(SMCCC_VERSION, 0);
    return version < least ? (u64)NOT_SUPPORTED : version;
}

static u64 trng_version(void) { return ask(TRNG_VERSION, 0); }
static u64 pv_time(void) { return ask(SMCCC_ARCH_FEATURES, PV_TIME_FEATURES); }

/* Function pointers and names: absolute relocations in data. */
static const struct { const char *name; u64 (*probe)(void); } probes[] = {
    {"psci", psci_version}, {"trng", trng_version}, {"pv_time", pv_time},
};

unsigned discover(void) {
    unsigned found = 0;
    for (unsigned i = 0; i < LENGTH(probes); i++) {
        u64 value = probes[i].probe();
        if ((s32)value < 0)
            continue;
        findings[found++] = (struct finding){probes[i].name, value};
        common_total += (u32)report(probes[i].name, value);
    }
    if (note)
        note(found);
    return found;
}

u64 sum(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i, u64 j) {
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j;
}

struct regs4 four(u64 fid) {
    u64 x0 = ask(fid, 7);
    return (struct regs4){x0, x0 + 1, x0 + 2, x0 + 3};
}

s32 negate(s32 value) { return -value; }

u64 length(const char *text) {
    u64 count = 0;
    while (text[count])
        count++;
    return count;
}

void reverse(u8 *bytes, u64 size) {
    for (u64 i = 0; i < size / 2; i++) {
        u8 kept = bytes[i];
        bytes[i] = bytes[size - 1 - i], bytes[size - 1 - i] = kept;
    }
}

u64 load(const volatile u64 *address) { return *address; }

u64 remember(u64 value) {
    u64 before = started_at;
    started_at = value;
    return before;
}

void spin(void) {
    for (;;)
        __asm__ volatile("");
}

u64 recurse(u64 depth) {
    volatile u64 frame[64];
    frame[depth & 63] = depth;
    if (depth == ~0ull)
        return 0;
    return recurse(depth + 1) + frame[depth & 63];
}

extern void secondary(void);
volatile u64 secondary_context;

/* Starts another CPU and waits for what it writes. */
u64 start(u64 mpidr, u64 context) {
    register u64 r0 __asm__("x0") = PSCI_CPU_ON_64;
    register u64 r1 __asm__("x1") = mpidr;
    register u64 r2 __asm__("x2") = (u64)secondary;
    register u64 r3 __asm__("x3") = context;
    __asm__ volatile("hvc #0" : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3)::"memory");
    if (r0)
        return r0;
    while (!secondary_context)
        ;
    return secondary_context;
}
