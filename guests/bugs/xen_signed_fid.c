/*
 * xen_signed_fid: a function identifier in an int.
 *
 * Identifiers of fast calls have bit 31 set: an int is negative, and x0 gets 32 ones above it. Who
 * compares all of x0, as QEMU does and Xen did, does not know such a call; who looks at w0, as the
 * specification says, answers. Both sides were wrong at times.
 * Right: identifiers are u32 in the guest, and w0 in the hypervisor.
 */
// bug: 21 xen 7f4217cc60
// run: profile=kvm-6.12 cpus=1
// caught: rule dirty-function-id
#include "lib/guest.h"

static s32 call(int fid) { return (s32)firmware((u64)fid).x0; }

int main(const void *dtb) {
    machine_read(dtb);
    s32 version = call((int)PSCI_VERSION);
    printf("PSCI %d.%d\n", version >> 16, version & 0xFFFF);
    power_off();
}
