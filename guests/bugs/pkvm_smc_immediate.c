/*
 * pkvm_smc_immediate: SMC with an immediate.
 *
 * The convention's immediate is 0. Firmware at EL3 rarely looks at it, so an SMC #1 went unnoticed;
 * a hypervisor in between that does look (pKVM forbids it, KVM answers -1) ends it.
 * Right: SMC #0.
 */
// bug: 45 linux cf6348af645b
// run: profile=kvm-6.12 cpus=1 conduit=smc
// caught: rule immediate-not-zero
#include "lib/guest.h"

static s32 smc_1(u64 fid) {
    register u64 x0 __asm__("x0") = fid;
    __asm__ volatile("smc #1"
                     : "+r"(x0)
                     :
                     : "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12",
                       "x13", "x14", "x15", "x16", "x17", "cc", "memory");
    return (s32)x0;
}

int main(const void *dtb) {
    machine_read(dtb);
    if (machine.conduit == CONDUIT_SMC)
        printf("PSCI: %s\n", smc_1(PSCI_VERSION) > 0 ? "there" : "absent");
    power_off();
}
