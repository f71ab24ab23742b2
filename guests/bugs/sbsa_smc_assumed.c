/*
 * sbsa_smc_assumed: the conduit is built in.
 *
 * The compliance suite executed SMC on every machine, since the boards it was written for have
 * firmware at EL3. In a virtual machine PSCI is behind HVC; that KVM since v6.4 answers an SMC as
 * well hides the mistake, and everything older or other does not.
 * Right: the conduit is what /psci says, `firmware(PSCI_VERSION)`.
 */
// bug: 6 ARM-software/sbsa-acs#263
// run: profile=kvm-6.12 cpus=1
// caught: rule conduit-mismatch
#include "lib/guest.h"

int main(const void *dtb) {
    machine_read(dtb);      /* for the CPUs only */
    u32 version = (u32)smc(PSCI_VERSION).x0;
    printf("%u CPUs, PSCI %u.%u\n", machine.cpus, version >> 16, version & 0xFFFF);
    smc(PSCI_SYSTEM_OFF);
    return 1;
}
