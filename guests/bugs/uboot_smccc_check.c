/*
 * uboot_smccc_check: PSCI is asked about a call it does not know.
 *
 * Before it looked for SMCCC services U-Boot asked PSCI_FEATURES for SMCCC_ARCH_FEATURES. What
 * PSCI knows is SMCCC_VERSION, and nothing else of the calling convention: a compliant firmware
 * answers -1, and no service was ever bound.
 * Right: PSCI_FEATURES(SMCCC_VERSION), then SMCCC_VERSION itself.
 */
// bug: 13 u-boot 12ccdcd79b
// run: profile=kvm-6.12 cpus=1
// caught: rule features-of-another
#include "lib/guest.h"

static bool smccc_features(void) {
    return machine.psci_0_2 && (s32)firmware(PSCI_VERSION).x0 >= PSCI_1_0 &&
           (s32)firmware(PSCI_FEATURES, SMCCC_ARCH_FEATURES).x0 != NOT_SUPPORTED;
}

int main(const void *dtb) {
    machine_read(dtb);
    printf("SMCCC services: %s\n", smccc_features() ? "to be bound" : "none");
    power_off();
}
