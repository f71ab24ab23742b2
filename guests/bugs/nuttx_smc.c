/*
 * nuttx_smc: the conduit is a build option.
 *
 * The code said SMC, as on the board. Below KVM the version of PSCI could not be read, and with
 * macOS's hypervisor the probe hung. The KVM of this run makes the instruction UNDEFINED.
 * Right: read /psci method; an image that cannot must be built for the machine it runs on.
 */
// bug: 36 nuttx 745f443cbf, PR 9652
// run: profile=kvm-4.15 cpus=1
// caught: rule conduit-mismatch call-undefined
// caught: ending exit 70
#include "lib/guest.h"

#define CONFIG_ARM64_PSCI_CONDUIT CONDUIT_SMC

static enum conduit conduit = CONFIG_ARM64_PSCI_CONDUIT;

int main(const void *dtb) {
    machine_read(dtb);
    if (!machine.psci_0_2)
        return 1;
    u32 version = (u32)smccc(conduit, PSCI_VERSION).x0;
    printf("PSCI %u.%u\n", version >> 16, version & 0xFFFF);
    smccc(conduit, PSCI_SYSTEM_OFF);
    return 1;
}
