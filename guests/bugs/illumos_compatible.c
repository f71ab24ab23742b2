/*
 * illumos_compatible: PSCI is there, under another name.
 *
 * A loader looked for "arm,psci" in /psci's compatible; bhyve wrote "arm,psci-1.0" and "-0.2" and
 * no fallback. No PSCI, so no second CPU and no way to switch off. This one compares the first
 * string of the list alone, which comes to the same on every machine of PSCI 0.2 and later.
 * Right: any string of the list that begins with "arm,psci" will do.
 */
// bug: 38 richlowe/illumos-gate PR 217
// run: profile=kvm-6.12 cpus=1
// caught: ending idle
#include "lib/guest.h"

static bool psci_found(void) { return machine.psci && !strcmp(machine.psci, "arm,psci"); }

int main(const void *dtb) {
    machine_read(dtb);
    if (psci_found())
        power_off();
    puts("no PSCI; you may switch the machine off now\n");
    for (;;)
        __asm__ volatile("wfi");
}
