/*
 * uboot_trng_features: the wrong office is asked.
 *
 * The driver asked SMCCC_ARCH_FEATURES whether TRNG_VERSION is implemented. That function speaks
 * for the architecture's calls alone: KVM answers -1 for TRNG and serves it, so no U-Boot in a
 * virtual machine ever had entropy.
 * Right: TRNG_VERSION announces itself, `(s32)firmware(TRNG_VERSION).x0 >= TRNG_1_0`.
 */
// bug: 12 u-boot 51ebe8cd6a
// run: profile=kvm-6.12 cpus=1
// caught: rule features-of-another
#include "lib/guest.h"

int main(const void *dtb) {
    machine_read(dtb);
    bool found = smccc_version() >= SMCCC_1_1 &&
                 (s32)firmware(SMCCC_ARCH_FEATURES, TRNG_VERSION).x0 >= 0 &&
                 (s32)firmware(TRNG_VERSION).x0 >= TRNG_1_0;
    printf("TRNG: %s\n", found ? "bound" : "not supported by firmware");
    power_off();
}
