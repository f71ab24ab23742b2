/*
 * uboot_psci_registers: a value kept in x1 across a call.
 *
 * PSCI's assembler held its state in r0-r3 while it called others. Registers that carry arguments
 * carry results too: this one works below QEMU, which writes x0 alone, and writes to a wild address
 * below KVM, which returns x0 to x3.
 * Right: what must survive a call lives in x19 to x28, or on the stack.
 */
// bug: 14 u-boot 8dc2c66680
// run: profile=qemu-tcg cpus=1
// caught: rule lost-registers
// caught: mutant crash by "PSCI_VERSION unused"
#include "lib/guest.h"

/* void note_version(u32 *where) */
__asm__(".text\n"
        "note_version:\n"
        "    mov     x1, x0\n"
        "    mov     w0, #0x84000000\n"
        "    hvc     #0\n"
        "    str     w0, [x1]\n"
        "    ret\n");
void note_version(u32 *where);

int main(const void *dtb) {
    static u32 version;
    machine_read(dtb);
    if (machine.conduit == CONDUIT_HVC)
        note_version(&version);
    printf("PSCI %u.%u\n", version >> 16, version & 0xFFFF);
    power_off();
}
