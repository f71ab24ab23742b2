/*
 * linux49_workaround_3: one workaround stands for another.
 *
 * WORKAROUND_3 discards the branch history and does what WORKAROUND_1 does, and came four years
 * later. Hypervisors had to be taught to announce and to migrate it; on one that was not, a kernel
 * that has asked for the first and calls the third gets -1, and is not protected.
 * Right: ARCH_FEATURES of the very identifier that is called.
 */
// bug: 40 linux 4.9 stable, PATCH 4.9 41/43
// run: profile=kvm-6.12 cpus=1
// caught: rule workaround-unannounced
#include "lib/guest.h"

int main(const void *dtb) {
    machine_read(dtb);
    if (smccc_version() >= SMCCC_1_1 &&
        (s32)firmware(SMCCC_ARCH_FEATURES, SMCCC_ARCH_WORKAROUND_1).x0 >= 0) {
        firmware(SMCCC_ARCH_WORKAROUND_3);
        puts("branch history discarded\n");
    }
    power_off();
}
