/*
 * xen_features_garbage: anything but -1 means yes.
 *
 * Xen returned PSCI_FEATURES' answer uninitialised for functions it did not list. A caller that
 * compares with NOT_SUPPORTED alone takes any other error, or garbage, for a feature: a mutant
 * says -2, and SYSTEM_OFF2 is called on a machine that never said it has it.
 * Right: a feature's flags are not negative, `(s32)answer >= 0`.
 */
// bug: 42 xen 83ba64c3eb
// run: profile=kvm-6.12 cpus=1
// caught: mutant wrong belief by "PSCI_FEATURES(SYSTEM_OFF2) invalid" as psci-optional-unannounced
#include "lib/guest.h"

#define HIBERNATE_OFF 1     /* DEN0022, SYSTEM_OFF2 */

int main(const void *dtb) {
    machine_read(dtb);
    if ((s32)firmware(PSCI_VERSION).x0 >= PSCI_1_0 &&
        (s32)firmware(PSCI_FEATURES, PSCI_SYSTEM_OFF2_64).x0 != NOT_SUPPORTED)
        firmware(PSCI_SYSTEM_OFF2_64, HIBERNATE_OFF, 0);
    power_off();
}
