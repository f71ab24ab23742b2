/*
 * edk2_mpidr_mt: MPIDR_EL1 as it is read.
 *
 * Bit 31 is always set, bit 24 (MT) says how to read Aff0 and bit 30 (U) that there is one CPU:
 * none of them is an affinity. A target made from this CPU's register with Aff0 exchanged matches
 * no CPU, and the core is lost.
 * Right: mask with 0xFF00FFFFFF, or take reg from the device tree.
 */
// bug: 31 edk2 dfbb7de3c6, crosvm a46da1b8e
// run: profile=kvm-6.12 cpus=2
// caught: rule mpidr-not-masked
#include "lib/guest.h"

static volatile bool up;

void secondary_main(u64 context, unsigned cpu) {
    (void)context, (void)cpu;
    up = true;
}

int main(const void *dtb) {
    machine_read(dtb);
    u64 target = (read_sysreg(mpidr_el1) & ~0xFFull) | 1;
    s32 result = (s32)firmware(PSCI_CPU_ON_64, target, (u64)secondary_start, 0).x0;
    while (result == PSCI_SUCCESS && !up)
        relax();
    printf("cpu 1: %s\n", up ? "on" : "lost");
    power_off();
}
