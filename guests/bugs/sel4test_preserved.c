/*
 * sel4test_preserved: a test that demands the loss.
 *
 * The test made an SMC with marks in x2 and x3 and failed if they came back. A callee may destroy
 * the result registers it does not define; nobody says it must. Below KVM the test passes; TF-A
 * keeps them, QEMU writes x0 alone, and there it fails.
 * Right: look at the registers that the function defines, at no other.
 */
// bug: 18 seL4/sel4test PR 116
// run: profile=kvm-6.12 cpus=1
// caught: rule lost-registers
#include "lib/guest.h"

#define MARK_2 0x2222222222222222
#define MARK_3 0x3333333333333333

int main(const void *dtb) {
    machine_read(dtb);
    struct regs4 r = firmware(PSCI_VERSION, 0, MARK_2, MARK_3);
    if (r.x2 == MARK_2 || r.x3 == MARK_3) {
        puts("FAIL: x2 and x3 are to be clobbered\n");
        return 1;
    }
    puts("ok\n");
    power_off();
}
