/*
 * The guest's runtime: everything a guest may lean on, and all of it.
 *
 * Guests run at EL1 on one plain Armv8.0 CPU type, with the MMU off (so every access is to Device
 * memory and must be aligned), without floating point and without a C library.
 */
#ifndef GUEST_H
#define GUEST_H

#include "smccc.h"

/* Both would fault: FP is trapped at reset (CPACR_EL1), Device memory wants alignment. */
#if defined(__ARM_NEON) || defined(__ARM_FP) || defined(__ARM_FEATURE_UNALIGNED)
#error "guests are built without FP and with strict alignment: see tools/build_guests.py"
#endif

typedef unsigned char u8;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;
typedef unsigned long size_t;

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* ---- string.c: the four functions a compiler may call, and two that guests do ---- */
void *memcpy(void *to, const void *from, size_t length);
void *memmove(void *to, const void *from, size_t length);
void *memset(void *to, int byte, size_t length);
int memcmp(const void *left, const void *right, size_t length);
size_t strlen(const char *text);
int strcmp(const char *left, const char *right);

/* ---- console.c: the PL011 at 0x09000000 ---- */
void putc(char c);
void puts(const char *text);    /* without the newline of stdio's */
/* %s %c %d %u %x %%, with width, '-', '0', and l or ll. */
__attribute__((format(printf, 1, 2))) void printf(const char *format, ...);
void print_uuid(const u32 words[4]);    /* as DEN0028 packs them: first byte in bits 7:0 */

/* ---- call.c: hypercalls and firmware calls ---- */
enum conduit { CONDUIT_NONE, CONDUIT_HVC, CONDUIT_SMC };

struct regs4 { u64 x0, x1, x2, x3; };
struct args { u64 x1, x2, x3, x4, x5, x6, x7; };

struct regs4 smccc_call(enum conduit conduit, u64 fid, struct args args);

/* smccc(conduit, fid, x1, x2 ...): the arguments left out are zero, as in Linux. */
#define smccc(conduit, fid, ...) smccc_call((conduit), (fid), (struct args){__VA_ARGS__})
#define hvc(fid, ...) smccc(CONDUIT_HVC, fid __VA_OPT__(, ) __VA_ARGS__)
#define smc(fid, ...) smccc(CONDUIT_SMC, fid __VA_OPT__(, ) __VA_ARGS__)
/* By the conduit the device tree names: only after machine_read(). */
#define firmware(fid, ...) smccc(machine.conduit, fid __VA_OPT__(, ) __VA_ARGS__)

/* ---- discover.c: the legal way to each service (DEN0028; Linux psci_probe) ---- */
u32 smccc_version(void);    /* SMCCC_1_0 when nothing newer was announced; 0 without any PSCI */
bool trng_present(void);
bool vendor_uid(u32 words[4]);              /* false: nobody may be asked, or nobody answers */
const char *vendor_name(const u32 words[4]);
bool is_kvm(const u32 words[4]);

/* ---- fdt.c: what the device tree says ---- */
struct machine {
    bool found;                     /* there was a device tree */
    enum conduit conduit;           /* /psci method */
    bool psci_0_2;                  /* /psci is compatible with arm,psci-0.2 or later */
    const char *psci;               /* its first compatible string, or NULL */
    const char *hypervisor;         /* /hypervisor's first compatible string, or NULL */
    unsigned cpus;                  /* /cpus/cpu@N, their MPIDRs in cpu_mpidr[] */
    u64 ram_base, ram_size;         /* the first /memory range */
};
extern struct machine machine;
extern u64 cpu_mpidr[MAX_CPUS];
const struct machine *machine_read(const void *dtb);

/* ---- guest.c: this CPU, exceptions, the end ---- */
#define read_sysreg(name)                                                                          \
    ({                                                                                             \
        u64 value_;                                                                                \
        __asm__ volatile("mrs %0, " #name : "=r"(value_)::"memory");                               \
        value_;                                                                                    \
    })
#define write_sysreg(name, value)                                                                  \
    __asm__ volatile("msr " #name ", %0\n\tisb" ::"r"((u64)(value)) : "memory")

u64 my_mpidr(void);
u64 counter(void);              /* CNTVCT_EL0 */
u64 milliseconds(u64 count);    /* in ticks of that counter */
void relax(void);               /* one turn of a waiting loop */

struct frame { u64 x[31], elr, spsr, esr, far, vector; };   /* as start.S pushes it */

#define ESR_EC(esr) ((u32)((esr) >> 26) & 0x3F)
#define EC_UNKNOWN 0x00
const char *esr_class_name(u64 esr);

/*
 * A guarded instruction: after guard_arm() an UNDEFINED instruction is skipped instead of reported,
 * and noted in `guard`; guard_hit() disarms and says whether that happened. One CPU at a time.
 */
struct guard { bool armed, hit; u64 esr, elr; };
extern volatile struct guard guard;
void guard_arm(void);
bool guard_hit(void);

u64 semihost(u32 operation, const void *argument);
_Noreturn void exit_with(u32 status);   /* through semihosting, with this process status */
_Noreturn void power_off(void);         /* through PSCI SYSTEM_OFF where there is one */

/* The guest's own: */
int main(const void *dtb);
void secondary_start(void);                             /* entry point for CPU_ON */
void secondary_main(u64 context, unsigned cpu);         /* cpu = its index in cpu_mpidr[] */

#endif
