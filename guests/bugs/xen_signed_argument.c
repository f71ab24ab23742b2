/*
 * xen_signed_argument: an identifier handed on in an int.
 *
 * The identifier asked about is a 32-bit argument of a 32-bit call. Sign-extended it fills x1 with
 * ones above bit 31, which a hypervisor must ignore; Xen did not until 2026.
 * Right: u32 all the way down.
 */
// bug: 22 xen f4af571dd7
// run: profile=kvm-6.12 cpus=1
// caught: rule dirty-arguments
#include "lib/guest.h"

static bool psci_has(int fid) { return (s32)firmware(PSCI_FEATURES, (u64)fid).x0 >= 0; }

int main(const void *dtb) {
    machine_read(dtb);
    if ((s32)firmware(PSCI_VERSION).x0 >= PSCI_1_0)
        printf("SYSTEM_SUSPEND: %s\n", psci_has((int)PSCI_SYSTEM_SUSPEND_64) ? "yes" : "no");
    power_off();
}
