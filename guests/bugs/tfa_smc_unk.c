/*
 * tfa_smc_unk: -1 in 64 bits.
 *
 * NOT_SUPPORTED to an SMC32 call is 0xFFFFFFFF in w0, and what stands above it is nobody's. TF-A
 * returned it zero-extended; a caller that compares x0 with -1 then takes "unknown" for a version.
 * Right: convert to s32 first, `(s32)firmware(TRNG_VERSION).x0`.
 */
// bug: 24 TF-A PR 1270
// run: profile=kvm-6.12 cpus=1 services=-trng
// caught: rule result-read-as-64
// caught: mutant wrong belief by "TRNG_VERSION wide" as error-used-as-version
#include "lib/guest.h"

int main(const void *dtb) {
    machine_read(dtb);
    if (smccc_version() < SMCCC_1_1)
        power_off();
    if (firmware(TRNG_VERSION).x0 == (u64)NOT_SUPPORTED)
        puts("TRNG: absent\n");
    else
        printf("random: %llx\n", firmware(TRNG_RND64, 64).x3);
    power_off();
}
