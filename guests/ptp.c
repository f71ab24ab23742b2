/*
 * ptp: KVM's clock service (linux Documentation/virt/kvm/arm/ptp_kvm.rst): the host's wall clock
 * and the guest's counter, both read in the same moment.
 *
 * Legal order: the vendor's UID must be KVM's, and bit 1 of its features set. The counter it gives
 * must lie between two reads of our own, before and after, and the wall clock must not run
 * backwards.
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0 console~"ptp"
#include "lib/guest.h"

static u64 physical_counter(void) {
    __asm__ volatile("isb" ::: "memory");
    return read_sysreg(cntpct_el0);
}

static const struct kind { const char *name; u64 id; u64 (*read)(void); } kinds[] = {
    {"virtual", KVM_PTP_VIRTUAL, counter},
    {"physical", KVM_PTP_PHYSICAL, physical_counter},
};

static bool announced(void) {
    u32 uid[4];
    if (!vendor_uid(uid) || !is_kvm(uid)) {
        puts("ptp: the hypervisor is not KVM, or there is none to ask\n");
        return false;
    }
    if (!(firmware(KVM_FEATURES).x0 & KVM_FEATURE_PTP)) {
        puts("ptp: KVM does not announce it\n");
        return false;
    }
    return true;
}

/* One reading; false when it cannot be right. *wallclock is the last one, and becomes this one. */
static bool check(const struct kind *kind, u64 *wallclock) {
    u64 before = kind->read();
    struct regs4 r = firmware(KVM_PTP, kind->id);
    u64 after = kind->read();
    if (r.x0 == (u64)NOT_SUPPORTED) {
        printf("ptp %s: not with this host's clock source\n", kind->name);
        return true;
    }
    u64 time = r.x0 << 32 | (u32)r.x1, count = r.x2 << 32 | (u32)r.x3;
    bool ok = before <= count && count <= after && time >= *wallclock;
    printf("ptp %-8s wall clock %llu ns, counter %llu <= %llu <= %llu  %s\n", kind->name, time,
           before, count, after, ok ? "ok" : "FAIL");
    *wallclock = time;
    return ok;
}

int main(const void *dtb) {
    machine_read(dtb);
    if (!announced())
        power_off();
    u64 wallclock = 0;
    bool ok = true;
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < LENGTH(kinds); i++)
            ok = check(&kinds[i], &wallclock) && ok;
    if (!ok)
        return 1;
    puts("ptp: ok\n");
    power_off();
}
