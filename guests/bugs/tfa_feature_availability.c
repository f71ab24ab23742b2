/*
 * tfa_feature_availability: a new call, asked of everybody.
 *
 * SMCCC_ARCH_FEATURE_AVAILABILITY tells what EL3 has enabled. TF-A panicked on one register of it
 * with FEAT_RNG_TRAP; and most machines have never heard of it. The version of the convention says
 * nothing about it: ARCH_FEATURES does.
 * Right: ARCH_FEATURES(0xC0000003) >= 0 first.
 */
// bug: 46 TF-A f610c8c38, ee11b40cf
// run: profile=kvm-6.12 cpus=1
// caught: rule arch-call-unannounced
#include "lib/guest.h"

#define FEATURE_AVAILABILITY 0xC0000003
#define SCR_EL3              0x1E1100   /* op0 3, op1 6, CRn 1, CRm 1, op2 0, as an MRS has them */

int main(const void *dtb) {
    machine_read(dtb);
    if (smccc_version() >= SMCCC_1_1) {
        struct regs4 r = firmware(FEATURE_AVAILABILITY, SCR_EL3);
        if ((s64)r.x0 < 0)
            puts("SCR_EL3: not told\n");
        else
            printf("SCR_EL3 has %llx enabled\n", r.x1);
    }
    power_off();
}
