/*
 * toaru_no_off: power-off that does not.
 *
 * SYSTEM_OFF never returns, says the specification, and the code behind it was whatever came next:
 * a hypervisor that does not know the call gives it back, and the system goes on after its end.
 * Right: stop for good behind the call, `for (;;) wfi`.
 */
// bug: 37 toaruos#384, libkrun PR 196
// run: profile=kvm-6.12 cpus=1 deny=0x84000008
// caught: rule power-off-returned
#include "lib/guest.h"

static void shutdown(void) {
    puts("the system is going down\n");
    firmware(PSCI_SYSTEM_OFF);
}

static void idle_report(void) {
    u32 version = (u32)firmware(PSCI_VERSION).x0;
    printf("still here, below PSCI %u.%u\n", version >> 16, version & 0xFFFF);
}

int main(const void *dtb) {
    machine_read(dtb);
    shutdown();
    idle_report();
    return 0;
}
