/*
 * edk2_soc_id_x1: the result is taken from the argument.
 *
 * The helper returns x0 as a status and gives x1 back through the argument's pointer. SOC_ID has no
 * status: its x0 is the identifier, and x1 is nobody's. Since no profile here has SOC_ID, the
 * question before it is read in the same way: a zero in x1 makes SOC_ID exist.
 * Right: x0, as a signed number.
 */
// bug: 27 edk2 11b5093ce4
// run: profile=kvm-6.12 cpus=1
// caught: rule lost-registers soc-id-unannounced
#include "lib/guest.h"

static u64 call1(u64 fid, u64 *argument) {
    struct regs4 r = firmware(fid, *argument);
    *argument = r.x1;
    return r.x0;
}

int main(const void *dtb) {
    machine_read(dtb);
    if (smccc_version() < SMCCC_1_1)
        power_off();
    u64 argument = SMCCC_ARCH_SOC_ID;
    call1(SMCCC_ARCH_FEATURES, &argument);
    if ((s32)argument >= 0) {
        argument = 0;
        call1(SMCCC_ARCH_SOC_ID, &argument);
        printf("JEP-106 code and SoC id: %llx\n", argument);
    }
    power_off();
}
