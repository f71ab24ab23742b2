/*
 * edk2_reset_type: SYSTEM_RESET2 with whatever came.
 *
 * The reset library passed the caller's reset type through to the firmware. With bit 31 clear only
 * 0 is defined, a warm reset; the rest is INVALID_PARAMETERS here, and was a cold reset there.
 * Right: 0 for a warm reset, a vendor's type with bit 31 set, SYSTEM_RESET for everything else.
 */
// bug: 28 edk2 748bea7171
// run: profile=kvm-6.12 cpus=1
// caught: rule reset2-reserved-type
// caught: ending reset
#include "lib/guest.h"

#define SYSTEM_RESET 0x84000009
#define EFI_RESET_PLATFORM_SPECIFIC 3   /* UEFI 2.10, 8.5.1 */

static bool has_reset2(void) {
    return (s32)firmware(PSCI_VERSION).x0 >= PSCI_1_0 &&
           (s32)firmware(PSCI_FEATURES, PSCI_SYSTEM_RESET2_64).x0 >= 0;
}

int main(const void *dtb) {
    machine_read(dtb);
    if (has_reset2())
        firmware(PSCI_SYSTEM_RESET2_64, EFI_RESET_PLATFORM_SPECIFIC, 0);
    firmware(SYSTEM_RESET);
    power_off();
}
