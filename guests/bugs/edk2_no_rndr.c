/*
 * edk2_no_rndr: the only entropy there is was never asked for.
 *
 * The network stack began to insist on a random number generator, and the library behind it knew
 * the RNDR instruction alone. KVM on a core without it offers TRNG by firmware call, which nobody
 * had connected: no network, no boot from it. No call is wrong here; the one that is missing is.
 * Right: RNDR where ID_AA64ISAR0_EL1 has it, else TRNG, found the legal way: trng_present().
 */
// bug: 10 edk2 afba5358c8
// run: profile=kvm-6.12 cpus=1
// caught: ending exit 1
#include "lib/guest.h"

static bool rndr_present(void) { return read_sysreg(id_aa64isar0_el1) >> 60 & 0xF; }

int main(const void *dtb) {
    machine_read(dtb);
    if (!rndr_present()) {
        puts("no random number generator: the network stack is not started\n");
        return 1;
    }
    power_off();
}
