/*
 * stolen_time: paravirtualised time (DEN0057). Each CPU has a record in memory of the hypervisor's
 * in which the nanoseconds taken from it are counted.
 *
 * The boot CPU finds its record the legal way, checks its form (revision 0, attributes 0, 64-byte
 * aligned, outside the RAM of the device tree), starts the second CPU spinning so that the two
 * compete for the host's time, and watches stolen_time, which must never fall. It is not an error
 * when it never rises: a host with nothing else to do steals nothing.
 */
// run: profile=kvm-6.12 cpus=2
// expect: exit=0 console~"stolen"
#include "lib/guest.h"

/* DEN0057; linux v6.17 arch/arm64/include/asm/pvclock-abi.h. */
struct record { u32 revision, attributes; u64 stolen_time; };

#define RECORD_ALIGNMENT 64
#define WATCH_MS         50
#define LINES            5          /* of what was seen while watching */

static volatile u64 competitor_record;
static volatile bool competitor_runs;

static bool pv_time_present(void) {
    return smccc_version() >= SMCCC_1_1 &&
           (s32)firmware(SMCCC_ARCH_FEATURES, PV_TIME_FEATURES).x0 >= 0 &&
           (s32)firmware(PV_TIME_FEATURES, PV_TIME_ST).x0 == 0;
}

void secondary_main(u64 context, unsigned cpu) {
    (void)context, (void)cpu;
    competitor_record = firmware(PV_TIME_ST).x0;
    competitor_runs = true;
    for (;;)
        __asm__ volatile("");
}

static void fail(const char *why, u64 value) {
    printf("FAIL: %s: 0x%llx\n", why, value);
    exit_with(1);
}

static const volatile struct record *check_record(u64 address) {
    if (address % RECORD_ALIGNMENT)
        fail("the record is not 64-byte aligned", address);
    if (address - machine.ram_base < machine.ram_size)
        fail("the record lies inside the RAM of the device tree", address);
    const volatile struct record *record = (const volatile struct record *)address;
    printf("record at 0x%llx: revision %u, attributes %u, stolen time %llu ns\n", address,
           record->revision, record->attributes, record->stolen_time);
    if (record->revision || record->attributes)
        fail("revision and attributes must be zero", record->revision);
    return record;
}

static void start_competitor(u64 own_record) {
    for (unsigned cpu = 0; cpu < machine.cpus; cpu++) {
        if (cpu_mpidr[cpu] == my_mpidr())
            continue;
        if (firmware(PSCI_CPU_ON_64, cpu_mpidr[cpu], (u64)secondary_start, 0).x0 != PSCI_SUCCESS)
            fail("CPU_ON of the competitor", cpu);
        while (!competitor_runs)
            relax();
        printf("cpu %u competes; its own record is at 0x%llx\n", cpu, competitor_record);
        if (competitor_record == own_record)
            fail("two CPUs share one record", own_record);
        return;
    }
    puts("one CPU only: nobody to compete with\n");
}

/* Returns by how much it rose. Bounded by the counter, which runs whether time is stolen or not. */
static u64 watch(const volatile struct record *record) {
    u64 first = record->stolen_time, last = first, start = counter();
    unsigned lines = 0;
    while (counter() - start < milliseconds(WATCH_MS)) {
        u64 now = record->stolen_time;
        if (now < last)
            fail("stolen time fell, from", last);
        if (now > last && lines < LINES)
            printf("  %u: %llu ns stolen\n", ++lines, now);
        last = now;
    }
    return last - first;
}

int main(const void *dtb) {
    machine_read(dtb);
    u64 address = pv_time_present() ? firmware(PV_TIME_ST).x0 : (u64)NOT_SUPPORTED;
    if (address == (u64)NOT_SUPPORTED) {
        puts("no stolen time record here: nothing to watch\n");
        power_off();
    }
    const volatile struct record *record = check_record(address);
    start_competitor(address);
    u64 rise = watch(record);
    if (rise)
        printf("stolen time rose by %llu ns in %u ms and never fell\n", rise, WATCH_MS);
    else
        printf("stolen time never rose in %u ms: the host is idle, or does not count\n", WATCH_MS);
    power_off();
}
