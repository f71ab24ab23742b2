/*
 * tfa_reserved_bits: an identifier with a tag of the caller's own.
 *
 * Bits 23:17 looked free, and firmware that masked them away answered. Since TF-A looks at them a
 * fast call with any of them set is unknown, and so it is to KVM.
 * Right: they are zero; what the caller wants to remember it keeps to itself.
 */
// bug: 23 TF-A 3e474f77
// run: profile=kvm-6.12 cpus=1
// caught: rule reserved-bits
#include "lib/guest.h"

#define TAG(fid) ((fid) | 0x5Au << 17)

int main(const void *dtb) {
    machine_read(dtb);
    if (smccc_version() >= SMCCC_1_1 && (s32)firmware(TAG(TRNG_VERSION)).x0 >= TRNG_1_0)
        puts("TRNG: there\n");
    else
        puts("TRNG: absent\n");
    power_off();
}
