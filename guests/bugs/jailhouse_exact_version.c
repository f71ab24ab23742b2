/*
 * jailhouse_exact_version: one version and no other.
 *
 * Jailhouse returned a PSCI version in a form of its own. A guest that compares with what it found
 * stops below the next hypervisor, newer or merely right; a mutant plays that one.
 * Right: versions are ordered, `(s32)version >= 0x10001`.
 */
// bug: 47 jailhouse 6e27d3af
// run: profile=kvm-6.12 cpus=1
// caught: mutant hang by "PSCI_VERSION flip x0 bit 1"
#include "lib/guest.h"

#define EXPECTED 0x10001

int main(const void *dtb) {
    machine_read(dtb);
    u32 version = (u32)firmware(PSCI_VERSION).x0;
    if (version != EXPECTED) {
        printf("PSCI %u.%u is not what this image was built for\n", version >> 16 & 0x7FFF,
               version & 0xFFFF);
        for (;;)
            __asm__ volatile("wfi");
    }
    puts("PSCI 1.1\n");
    power_off();
}
