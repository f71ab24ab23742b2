/*
 * edk2_trng_assert: no TRNG, no boot.
 *
 * The library asserted that its probe of the TRNG firmware succeeds. On a machine that has none,
 * or a hypervisor that hides it, every debug build stopped there.
 * Right: NOT_SUPPORTED is an answer. Return "unsupported" and let others do the job.
 */
// bug: 9 edk2 93629f2c7c (BZ 4150)
// run: profile=kvm-6.12 cpus=1 services=-trng
// caught: rule hang-after-refusal
// caught: ending idle
#include "lib/guest.h"

#define ASSERT(holds)                                                                              \
    do {                                                                                           \
        if (!(holds)) {                                                                            \
            puts("ASSERT: " #holds "\n");                                                          \
            for (;;)                                                                               \
                __asm__ volatile("wfi");                                                           \
        }                                                                                          \
    } while (0)

int main(const void *dtb) {
    machine_read(dtb);
    if (smccc_version() >= SMCCC_1_1) {
        s32 version = (s32)firmware(TRNG_VERSION).x0;
        ASSERT(version >= TRNG_1_0);
    }
    puts("the network stack has its entropy\n");
    power_off();
}
