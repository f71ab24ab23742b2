/*
 * rtthread_version_loop: PSCI_VERSION until it answers.
 *
 * A hypervisor that handles CPU_ON and forgot PSCI_VERSION says -1, for ever; the kernel took that
 * for "not ready" and asked again. No message, since the console comes later.
 * Right: -1 is an answer. Take it for PSCI 0.1 or none, and say so.
 */
// bug: 5 rcore-os/tgoskits PR 1692
// run: profile=kvm-6.12 cpus=1 deny=0x84000000 max-cycles=100000
// caught: rule hang-after-refusal
// caught: ending limit
#include "lib/guest.h"

int main(const void *dtb) {
    machine_read(dtb);
    s32 version;
    do
        version = (s32)firmware(PSCI_VERSION).x0;
    while (version < 0);
    printf("PSCI %d.%d\n", version >> 16, version & 0xFFFF);
    power_off();
}
