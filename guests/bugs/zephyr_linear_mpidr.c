/*
 * zephyr_linear_mpidr: CPU n has the affinity n.
 *
 * KVM puts sixteen CPUs into a cluster: number 16 has the affinity 0x100 (Aff1 = 1). Code that
 * counts up Aff0 asks for a CPU that does not exist, does not look at the answer, and waits.
 * Right: reg from the device tree; and CPU_ON's result decides whether to wait.
 */
// bug: 31 zephyr#57585
// run: profile=kvm-6.12 cpus=17 max-cycles=4000000
// caught: rule cpu-on-refused-wait
// caught: ending limit
#include "lib/guest.h"

static volatile u64 arrived;

/* Stackless: count this CPU in, and sleep. */
__asm__(".text\n"
        "park:\n"
        "    adrp    x1, arrived\n"
        "    add     x1, x1, :lo12:arrived\n"
        "1:  ldxr    x2, [x1]\n"
        "    add     x2, x2, #1\n"
        "    stxr    w3, x2, [x1]\n"
        "    cbnz    w3, 1b\n"
        "2:  wfi\n"
        "    b       2b\n");
void park(void);

int main(const void *dtb) {
    machine_read(dtb);
    for (u64 cpu = 1; cpu < 17; cpu++) {
        u64 before = arrived;
        firmware(PSCI_CPU_ON_64, cpu, (u64)park, 0);
        while (arrived == before)
            relax();
    }
    puts("17 CPUs\n");
    power_off();
}
