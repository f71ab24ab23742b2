/*
 * sel4_memory_clobber: an asm statement that writes memory and does not say so.
 *
 * The loader's SMC wrapper took its registers from a structure and put the results back into it,
 * without "memory" among the clobbers. To a newer compiler, in a release build, nobody read that
 * structure: the identifier was never stored, the results were never loaded, and boot hung.
 * Right: "memory", or the structure as an operand "+m".
 */
// bug: 17 seL4/seL4_tools PR 260
// run: profile=kvm-6.12 cpus=1
// caught: rule hang-after-refusal
// caught: ending idle
#include "lib/guest.h"

struct registers { u64 x0, x1; };

static void call(struct registers *r) {
    u64 scratch;
    __asm__("ldp    x0, x1, [%1]\n\t"
            "hvc    #0\n\t"
            "stp    x0, x1, [%1]\n\t"
            "mov    %0, x0"
            : "=r"(scratch)
            : "r"(r)
            : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12",
              "x13", "x14", "x15", "x16", "x17", "cc");
    r->x1 = scratch >> 32;
}

int main(const void *dtb) {
    machine_read(dtb);
    if (machine.conduit != CONDUIT_HVC)
        power_off();
    struct registers r = {PSCI_VERSION};
    call(&r);
    if ((s32)r.x0 < PSCI_1_0) {
        puts("PSCI 1.0 or later is needed\n");
        for (;;)
            __asm__ volatile("wfi");
    }
    power_off();
}
