/*
 * unikraft_default_hvc: no word about the conduit is taken for HVC.
 *
 * The first SMCCC calls of the unikernel ended in a synchronous exception at EL1: whoever tried
 * them chose HVC, on a machine where nobody is at EL2. Here it is the variable that begins as HVC,
 * and a device tree without /psci leaves it so.
 * Right: begin with "none", and make no call until /psci has named one.
 */
// bug: 39 unikraft PR 297
// run: profile=none cpus=1
// caught: rule conduit-unknown call-undefined
// caught: ending exit 70
#include "lib/guest.h"

static enum conduit conduit = CONDUIT_HVC;

int main(const void *dtb) {
    machine_read(dtb);
    if (machine.psci_0_2)
        conduit = machine.conduit;
    u32 version = (u32)smccc(conduit, PSCI_VERSION).x0;
    printf("PSCI %u.%u\n", version >> 16, version & 0xFFFF);
    power_off();
}
