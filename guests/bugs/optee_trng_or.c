/*
 * optee_trng_or: a test that cannot fail.
 *
 * Meant to look at the sign of SMCCC_VERSION's answer, the driver's first version ORed bit 31 into
 * it. The condition is always true, so there is no SMCCC 1.1 and never a TRNG. No call is wrong,
 * and no answer matters: that is what a mutant shows.
 * Right: `version & BIT31`, or a comparison as a signed number.
 */
// bug: 15 OP-TEE/optee_os PR 5360
// run: profile=kvm-6.12 cpus=1
// caught: mutant unaffected by "SMCCC_VERSION not-supported"
#include "lib/guest.h"

#define BIT31 (1u << 31)

static bool trng_supported(void) {
    if ((s32)firmware(PSCI_VERSION).x0 < PSCI_1_0 ||
        (s32)firmware(PSCI_FEATURES, SMCCC_VERSION).x0 == NOT_SUPPORTED)
        return false;
    u32 version = (u32)firmware(SMCCC_VERSION).x0;
    if (version | BIT31)
        return false;
    return version >= SMCCC_1_1 && (s32)firmware(TRNG_VERSION).x0 >= TRNG_1_0;
}

int main(const void *dtb) {
    machine_read(dtb);
    printf("TRNG: %s\n", trng_supported() ? "there" : "not supported");
    power_off();
}
