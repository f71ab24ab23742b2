/*
 * freebsd_unknown_call: the answer to an unknown call is taken for granted.
 *
 * QEMU made unknown calls UNDEFINED, then answered -1, took that back for 7.0 and did it again.
 * A kernel that probes early, with vectors that only stop, boots below the one and not the other.
 * Right, where it matters: have the vectors skip a probing instruction (guests/lib: guard_arm()).
 */
// bug: 25 CTSRD-CHERI/qemu PR 222
// run: profile=kvm-6.12 cpus=1
// caught: mutant hang by "TRNG_VERSION undefined"
#include "lib/guest.h"

/* Sixteen entries that stop. */
__asm__(".text\n"
        ".balign 2048\n"
        "early_vectors:\n"
        ".rept 16\n"
        "    wfi\n"
        "    b       . - 4\n"
        "    .balign 128\n"
        ".endr\n");
extern const char early_vectors[];

int main(const void *dtb) {
    write_sysreg(vbar_el1, early_vectors);
    machine_read(dtb);
    printf("TRNG: %s\n", trng_present() ? "there" : "absent");
    power_off();
}
