/*
 * edk2_trng_hvc: a probe by HVC on a machine without EL2.
 *
 * EDK2's entropy library was built with HVC as its conduit and asked for the TRNG version early in
 * boot. On QEMU's secure=on,virtualization=off the instruction itself is UNDEFINED at EL1, and the
 * firmware died of a question that might have been answered with "no".
 * Right: without /psci there is no conduit; ask only by the one that is promised.
 */
// bug: 8 tianocore/edk2 PR 5754, c98f7f7550
// run: profile=none cpus=1
// caught: rule conduit-unknown call-undefined
// caught: ending exit 70
#include "lib/guest.h"

int main(const void *dtb) {
    machine_read(dtb);
    s32 version = (s32)hvc(TRNG_VERSION).x0;
    printf("TRNG: %s\n", version >= TRNG_1_0 ? "there" : "absent, and no harm done");
    power_off();
}
