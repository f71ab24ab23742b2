/*
 * kut_hvc_assumed: "we are a guest, so it is HVC".
 *
 * The test runner called PSCI by HVC whatever the machine was. With EL2 for the guest (QEMU's
 * virtualization=on) the one who answers PSCI sits at EL3, and /psci says smc.
 * Right: the conduit is what /psci says, `firmware(PSCI_VERSION)`.
 */
// bug: 7 kvm-unit-tests a4d4ee86
// run: profile=kvm-6.12 cpus=1 conduit=smc
// caught: rule conduit-mismatch
#include "lib/guest.h"

int main(const void *dtb) {
    machine_read(dtb);
    u32 version = (u32)hvc(PSCI_VERSION).x0;
    printf("PSCI %u.%u, and now the tests\n", version >> 16, version & 0xFFFF);
    hvc(PSCI_SYSTEM_OFF);
    return 1;
}
