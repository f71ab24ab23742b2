/* This CPU, the default answer to an exception, and the ways to end. */
#include "guest.h"

u64 my_mpidr(void) { return read_sysreg(mpidr_el1) & MPIDR_AFFINITY; }

u64 counter(void) {
    __asm__ volatile("isb" ::: "memory");   /* else it may be read early: DDI 0487 */
    return read_sysreg(cntvct_el0);
}

u64 milliseconds(u64 count) { return read_sysreg(cntfrq_el0) * count / 1000; }

void relax(void) { __asm__ volatile("yield" ::: "memory"); }

/* ESR_EL1.EC (DDI 0487), as far as an Armv8.0 EL1 can see. */
static const struct { u32 ec; const char *name; } classes[] = {
    {0x00, "Unknown reason (UNDEFINED)"},
    {0x01, "Trapped WFI or WFE"},
    {0x07, "Trapped FP or SIMD"},
    {0x0E, "Illegal execution state"},
    {0x15, "SVC"},
    {0x16, "HVC"},
    {0x17, "SMC"},
    {0x18, "Trapped MSR, MRS or system instruction"},
    {0x20, "Instruction abort from a lower EL"},
    {0x21, "Instruction abort"},
    {0x22, "PC alignment fault"},
    {0x24, "Data abort from a lower EL"},
    {0x25, "Data abort"},
    {0x26, "SP alignment fault"},
    {0x2F, "SError"},
    {0x3C, "BRK"},
};

const char *esr_class_name(u64 esr) {
    for (unsigned i = 0; i < LENGTH(classes); i++)
        if (classes[i].ec == ESR_EC(esr))
            return classes[i].name;
    return "exception of an unlisted class";
}

volatile struct guard guard;

void guard_arm(void) { guard.hit = false, guard.armed = true; }

bool guard_hit(void) {
    guard.armed = false;
    return guard.hit;
}

static bool guarded(struct frame *frame) {
    bool synchronous = frame->vector % 0x200 == 0;
    if (!guard.armed || !synchronous || ESR_EC(frame->esr) != EC_UNKNOWN)
        return false;
    guard.armed = false, guard.hit = true;
    guard.esr = frame->esr, guard.elr = frame->elr;
    frame->elr += 4;
    return true;
}

/* Called by start.S's vectors; returning resumes at frame->elr. */
void default_exception(struct frame *frame) {
    static bool reporting;
    if (guarded(frame))
        return;
    if (reporting)      /* the report itself failed: end before it does so for ever */
        exit_with(EXIT_UNEXPECTED_EXCEPTION);
    reporting = true;
    printf("\nunexpected exception: %s, vector +0x%03llx, cpu %llx\n", esr_class_name(frame->esr),
           frame->vector, my_mpidr());
    printf("  ESR  0x%016llx  ELR 0x%016llx\n", frame->esr, frame->elr);
    printf("  SPSR 0x%016llx  FAR 0x%016llx\n", frame->spsr, frame->far);
    exit_with(EXIT_UNEXPECTED_EXCEPTION);
}

u64 semihost(u32 operation, const void *argument) {
    register u64 x0 __asm__("x0") = operation;
    register u64 x1 __asm__("x1") = (u64)argument;
    __asm__ volatile("hlt #0xf000" : "+r"(x0), "+r"(x1)::"memory");
    return x0;
}

static void system_off(void) {
    if (machine.psci_0_2)
        firmware(PSCI_SYSTEM_OFF);
}

/* Without a debugger below, HLT is UNDEFINED: then switching off is the next best. */
_Noreturn void exit_with(u32 status) {
    const u64 block[2] = {ADP_STOPPED_APPLICATION_EXIT, status};
    guard_arm();
    semihost(SYS_EXIT_EXTENDED, block);
    system_off();
    for (;;)
        __asm__ volatile("wfi");
}

_Noreturn void power_off(void) {
    system_off();
    exit_with(0);
}

/* A guest with one CPU never gets here. */
__attribute__((weak)) void secondary_main(u64 context, unsigned cpu) {
    printf("cpu %u started with context 0x%llx, and nobody told it what to do\n", cpu, context);
}
