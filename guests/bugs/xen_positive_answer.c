/*
 * xen_positive_answer: "not affected" is taken for an error.
 *
 * ARCH_FEATURES(WORKAROUND_1) says 0 where this CPU needs it and 1 where it does not; only what is
 * negative is an error. Xen treated any answer but 0 as one, on the very CPUs that are safe; this
 * is such a CPU, and the guest refuses to boot on it.
 * Right: `< 0` for errors, as a signed number.
 */
// bug: 41 xen 6b270fae7a
// run: profile=kvm-6.12 cpus=1
// caught: ending idle
#include "lib/guest.h"

static void need(u64 answer) {
    if (answer == 0)
        return;
    puts("WORKAROUND_1: error, and without it nobody may run here\n");
    for (;;)
        __asm__ volatile("wfi");
}

int main(const void *dtb) {
    machine_read(dtb);
    if (smccc_version() >= SMCCC_1_1) {
        need((u32)firmware(SMCCC_ARCH_FEATURES, SMCCC_ARCH_WORKAROUND_1).x0);
        firmware(SMCCC_ARCH_WORKAROUND_1);
    }
    power_off();
}
