/*
 * psci_cpu_on: the life of secondaries under PSCI (DEN0022: CPU_ON, CPU_OFF,
 * AFFINITY_INFO) on as many CPUs as the device tree lists.
 *
 * Each secondary is switched on with a 64-bit context id of its own, verifies the state it wakes up
 * in, adds to shared counters beside the others, and switches itself off; several rounds. The
 * counters are Armv8.0 load/store-exclusive pairs: with the MMU off memory is Device, where the
 * architecture leaves exclusives to the implementation (DDI 0487); emulators honour them.
 */
// run: profile=kvm-6.12 cpus=4
// expect: exit=0 console~"all 4 CPUs ok"
#include "lib/guest.h"

#define ROUNDS      3
#define ADDITIONS   1000        /* by each CPU to each counter in each round */
#define PATIENCE_MS 5000        /* of waiting before something is called lost */
#define CONTEXT     0xC0DE5EED00000000
#define NOBODY      0xFE        /* Aff0 past every CPU's; Xen does not look at Aff3 and Aff2 */

#define CURRENT_EL1    (1 << 2)
#define DAIF_ALL       (0xF << 6)
#define SCTLR_M        (1 << 0)

/* Written by a secondary, read by the boot CPU. `round` is written last. */
static volatile struct report { u64 context, mpidr, el, sctlr, daif, spsel; unsigned round; }
    reports[MAX_CPUS];

static unsigned boot_cpu;
static volatile bool go;

/* ---- shared counters ---- */

static volatile u32 lock;
static volatile u64 locked_counter, exclusive_counter;

static void spin_lock(void) {
    u32 taken, failed;
    __asm__ volatile("1:  ldaxr   %w0, [%2]\n"
                     "    cbnz    %w0, 1b\n"
                     "    stxr    %w1, %w3, [%2]\n"
                     "    cbnz    %w1, 1b\n"
                     : "=&r"(taken), "=&r"(failed)
                     : "r"(&lock), "r"(1)
                     : "memory");
}

static void spin_unlock(void) { __asm__ volatile("stlr wzr, [%0]" ::"r"(&lock) : "memory"); }

static void exclusive_add(volatile u64 *at) {
    u64 value;
    u32 failed;
    __asm__ volatile("1:  ldxr    %0, [%2]\n"
                     "    add     %0, %0, #1\n"
                     "    stxr    %w1, %0, [%2]\n"
                     "    cbnz    %w1, 1b\n"
                     : "=&r"(value), "=&r"(failed)
                     : "r"(at)
                     : "memory");
}

static void add_beside_the_others(void) {
    for (unsigned i = 0; i < ADDITIONS; i++) {
        exclusive_add(&exclusive_counter);
        spin_lock();
        locked_counter = locked_counter + 1;
        spin_unlock();
    }
}

/* ---- a secondary's life ---- */

static u64 context_of(unsigned cpu, unsigned round) { return CONTEXT | round << 8 | cpu; }

void secondary_main(u64 context, unsigned cpu) {
    volatile struct report *report = &reports[cpu];
    report->context = context;
    report->mpidr = my_mpidr();
    report->el = read_sysreg(CurrentEL);
    report->sctlr = read_sysreg(sctlr_el1);
    report->daif = read_sysreg(daif);
    report->spsel = read_sysreg(SPSel);
    while (!go)
        relax();
    add_beside_the_others();
    __asm__ volatile("dmb ish" ::: "memory");
    report->round = (unsigned)(context >> 8) & 0xFF;
    firmware(PSCI_CPU_OFF);
    printf("FAIL cpu %u: CPU_OFF returned\n", cpu);
    exit_with(1);
}

/* ---- the boot CPU's checks ---- */

static void fail_unless(bool holds, const char *what, unsigned cpu, u64 got, u64 wanted) {
    if (holds)
        return;
    printf("FAIL cpu %u: %s is 0x%llx, wanted 0x%llx\n", cpu, what, got, wanted);
    exit_with(1);
}

static void expect(const char *what, unsigned cpu, u64 got, u64 wanted) {
    fail_unless(got == wanted, what, cpu, got, wanted);
}

/* PSCI's codes are 32-bit signed (DEN0022), whatever stands above bit 31. */
static void expect_code(const char *what, unsigned cpu, u64 got, s32 wanted) {
    fail_unless((s32)got == wanted, what, cpu, got, (u64)wanted);
}

static u64 cpu_on(u64 mpidr, u64 context) {
    return firmware(PSCI_CPU_ON_64, mpidr, (u64)secondary_start, context).x0;
}

static u64 affinity_info(unsigned cpu) {
    return firmware(PSCI_AFFINITY_INFO_64, cpu_mpidr[cpu], 0).x0;
}

static void wait_for_affinity(unsigned cpu, s32 wanted) {
    u64 end = counter() + milliseconds(PATIENCE_MS);
    u64 state = affinity_info(cpu);
    while ((s32)state != wanted && counter() < end) {
        relax();
        state = affinity_info(cpu);
    }
    expect_code("AFFINITY_INFO", cpu, state, wanted);
}

static void check_report(unsigned cpu, unsigned round) {
    const volatile struct report *report = &reports[cpu];
    expect("rounds lived", cpu, report->round, round);
    expect("x0 at entry", cpu, report->context, context_of(cpu, round));
    expect("MPIDR", cpu, report->mpidr, cpu_mpidr[cpu]);
    expect("CurrentEL", cpu, report->el, CURRENT_EL1);
    expect("SCTLR_EL1.M", cpu, report->sctlr & SCTLR_M, 0);
    expect("DAIF", cpu, report->daif, DAIF_ALL);
    expect("SPSel", cpu, report->spsel, 1);
}

#define for_each_secondary(cpu)                                                                    \
    for (unsigned cpu = 0; cpu < machine.cpus; cpu++)                                              \
        if (cpu != boot_cpu)

static void refusals(void) {
    expect_code("AFFINITY_INFO of the caller", boot_cpu, affinity_info(boot_cpu), PSCI_ON);
    expect_code("CPU_ON of the caller", boot_cpu, cpu_on(my_mpidr(), 0), PSCI_ALREADY_ON);
    puts("CPU_ON of the caller: ALREADY_ON\n");
    expect_code("CPU_ON of MPIDR fe", boot_cpu, cpu_on(NOBODY, 0),
                PSCI_INVALID_PARAMETERS);
    puts("CPU_ON of an unknown MPIDR: INVALID_PARAMETERS\n");
}

static void switch_on(unsigned cpu, unsigned round) {
    expect_code("AFFINITY_INFO before CPU_ON", cpu, affinity_info(cpu), PSCI_OFF);
    expect_code("CPU_ON", cpu, cpu_on(cpu_mpidr[cpu], context_of(cpu, round)), PSCI_SUCCESS);
    wait_for_affinity(cpu, PSCI_ON);
    expect_code("the second CPU_ON", cpu, cpu_on(cpu_mpidr[cpu], 0), PSCI_ALREADY_ON);
    printf("round %u: cpu %u on (mpidr 0x%llx): OFF -> ON, then ALREADY_ON\n", round, cpu,
           cpu_mpidr[cpu]);
}

static void one_round(unsigned round) {
    go = false;
    for_each_secondary(cpu) switch_on(cpu, round);
    go = true;
    add_beside_the_others();
    for_each_secondary(cpu) wait_for_affinity(cpu, PSCI_OFF);
    for_each_secondary(cpu) check_report(cpu, round);
    u64 total = (u64)round * machine.cpus * ADDITIONS;
    expect("the exclusive counter", boot_cpu, exclusive_counter, total);
    expect("the locked counter", boot_cpu, locked_counter, total);
    printf("round %u: all off again, entry states right, both counters %llu\n", round, total);
}

static unsigned find_boot_cpu(void) {
    for (unsigned cpu = 0; cpu < machine.cpus; cpu++)
        if (cpu_mpidr[cpu] == my_mpidr())
            return cpu;
    printf("FAIL: the device tree does not list the boot CPU, mpidr 0x%llx\n", my_mpidr());
    exit_with(1);
}

int main(const void *dtb) {
    if (!machine_read(dtb)->psci_0_2) {
        puts("FAIL: no PSCI 0.2 or later in the device tree\n");
        return 1;
    }
    boot_cpu = find_boot_cpu();
    refusals();
    if (machine.cpus == 1)
        puts("one CPU only: no secondary to switch on\n");
    for (unsigned round = 1; round <= ROUNDS; round++)
        one_round(round);
    printf("all %u CPUs ok\n", machine.cpus);
    power_off();
}
