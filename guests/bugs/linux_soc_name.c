/*
 * linux_soc_name: the name of the SoC by the wrong width.
 *
 * SOC_ID's name (type 2) fills x1 to x17 in 64-bit pieces, and exists by SMC64 alone. Linux 6.15
 * asked for it by 0x80000002, Ampere's firmware answered one for the other, and TF-A did not know
 * the 64-bit identifier in ARCH_FEATURES. Seen only where SOC_ID is there: a mutant says it is.
 * Right: SOC_ID 0xC0000002 for type 2, after ARCH_FEATURES has announced it.
 */
// bug: 26 linux-arm-kernel 2026-May/1131331, TF-A 1c5498126
// run: profile=kvm-6.12 cpus=1
// caught: mutant wrong belief by "SMCCC_ARCH_FEATURES(SMCCC_ARCH_SOC_ID) zero" as soc-id-name-smc32
#include "lib/guest.h"

#define SOC_ID_NAME 2

int main(const void *dtb) {
    machine_read(dtb);
    if (smccc_version() < SMCCC_1_1 ||
        (s32)firmware(SMCCC_ARCH_FEATURES, SMCCC_ARCH_SOC_ID).x0 < 0) {
        puts("SoC: unknown\n");
        power_off();
    }
    struct regs4 name = firmware(SMCCC_ARCH_SOC_ID, SOC_ID_NAME);
    printf("SoC: %llx %llx %llx\n", name.x1, name.x2, name.x3);
    power_off();
}
