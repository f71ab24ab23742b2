/*
 * exceptions: every synchronous exception an EL1 kernel lives by, taken on purpose and checked
 * (DDI 0487): the vector, ESR_EL1's class and syndrome, ELR_EL1, FAR_EL1, SPSR_EL1.
 *
 * First with the MMU off: SVC, UDF, BRK, and an external abort from an address nobody claims. Then
 * under a tiny identity map (4 KiB granule, 39-bit addresses) with a hole in it: translation and
 * permission faults of data and of instructions. Last from EL0: SVC, an HVC, which is UNDEFINED
 * there, a system register out of reach, and a load from a page that is EL1's.
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0 console~"exceptions: all ok"
#include "lib/guest.h"

/* ---- the guest's own vectors, and the instructions that except ---- */

/* A trimmed frame: the registers a C function may change, and the four of the exception. */
struct taken { u64 vector, esr, elr, far, spsr; };
struct own_frame { u64 x[20], x29, x30; struct taken taken; u64 padding; };

__asm__(
    "    .pushsection .text.vectors, \"ax\"\n"
    "    .balign 2048\n"
    "own_vectors:\n"
    "    .irp offset, 0x000, 0x080, 0x100, 0x180, 0x200, 0x280, 0x300, 0x380,"
    "                 0x400, 0x480, 0x500, 0x580, 0x600, 0x680, 0x700, 0x780\n"
    "    .balign 128\n"
    "    sub  sp, sp, #224\n"               /* sizeof(struct own_frame) */
    "    stp  x0, x1, [sp]\n"
    "    mov  x0, #\\offset\n"
    "    b    own_entry\n"
    "    .endr\n"
    "    .balign 128\n"
    "    .popsection\n"

    "    .pushsection .text.own, \"ax\"\n"
    "    .macro own_pairs operation\n"
    "    \\operation x2,  x3,  [sp, #16]\n"
    "    \\operation x4,  x5,  [sp, #32]\n"
    "    \\operation x6,  x7,  [sp, #48]\n"
    "    \\operation x8,  x9,  [sp, #64]\n"
    "    \\operation x10, x11, [sp, #80]\n"
    "    \\operation x12, x13, [sp, #96]\n"
    "    \\operation x14, x15, [sp, #112]\n"
    "    \\operation x16, x17, [sp, #128]\n"
    "    \\operation x18, x19, [sp, #144]\n"
    "    \\operation x29, x30, [sp, #160]\n"
    "    .endm\n"
    "own_entry:\n"
    "    own_pairs stp\n"
    "    mrs  x1, esr_el1\n"
    "    mrs  x2, elr_el1\n"
    "    mrs  x3, far_el1\n"
    "    mrs  x4, spsr_el1\n"
    "    stp  x0, x1, [sp, #176]\n"
    "    stp  x2, x3, [sp, #192]\n"
    "    str  x4, [sp, #208]\n"
    "    mov  x0, sp\n"
    "    bl   on_exception\n"
    "    ldr  x2, [sp, #192]\n"
    "    ldr  x4, [sp, #208]\n"
    "    msr  elr_el1, x2\n"
    "    msr  spsr_el1, x4\n"
    "    own_pairs ldp\n"
    "    ldp  x0, x1, [sp]\n"
    "    add  sp, sp, #224\n"
    "    eret\n"

    /* Each is called as a function, with an address in x0 where it needs one. */
    "do_svc:   svc  #0x42\n"
    "          ret\n"
    "do_udf:   udf  #0\n"
    "          ret\n"
    "do_brk:   brk  #7\n"
    "          ret\n"
    "do_load:  ldr  x1, [x0]\n"
    "          ret\n"
    "do_store: str  xzr, [x0]\n"
    "          ret\n"
    "do_jump:  br   x0\n"                   /* x30 leads back: see resume_after() */

    /* enter_el0(pc, sp, x0): returns when EL0 says SVC_DONE. */
    "enter_el0:\n"
    "    stp  x19, x20, [sp, #-96]!\n"
    "    stp  x21, x22, [sp, #16]\n"
    "    stp  x23, x24, [sp, #32]\n"
    "    stp  x25, x26, [sp, #48]\n"
    "    stp  x27, x28, [sp, #64]\n"
    "    stp  x29, x30, [sp, #80]\n"
    "    msr  elr_el1, x0\n"
    "    msr  sp_el0, x1\n"
    "    mov  x3, #0x3c0\n"                 /* EL0t, DAIF masked */
    "    msr  spsr_el1, x3\n"
    "    mov  x0, x2\n"
    "    eret\n"
    "left_el0:\n"
    "    ldp  x21, x22, [sp, #16]\n"
    "    ldp  x23, x24, [sp, #32]\n"
    "    ldp  x25, x26, [sp, #48]\n"
    "    ldp  x27, x28, [sp, #64]\n"
    "    ldp  x29, x30, [sp, #80]\n"
    "    ldp  x19, x20, [sp], #96\n"
    "    ret\n"
    "    .popsection\n"

    "    .pushsection .el0_text, \"ax\"\n"
    "    .balign 4096\n"
    "el0_program:\n"
    "    str  x0, [sp, #-16]!\n"            /* EL0's own stack is there */
    "el0_svc:  svc  #0x123\n"
    "el0_hvc:  hvc  #0\n"
    "el0_mrs:  mrs  x1, sctlr_el1\n"
    "el0_load: ldr  x1, [x0]\n"
    "el0_done: svc  #0xd0e\n"
    "    .balign 4096\n"
    "    .popsection\n");

extern char own_vectors[];
extern char do_svc[], do_udf[], do_brk[], do_load[], do_store[], do_jump[];
extern char el0_program[], el0_svc[], el0_hvc[], el0_mrs[], el0_load[], el0_done[];
extern char left_el0[];
void enter_el0(const void *pc, const void *sp, u64 x0);

#define SVC_DONE 0xD0E

/* ---- what was taken ---- */

#define EC_SYSREG          0x18
#define EC_SVC             0x15
#define EC_IABT_LOWER      0x20
#define EC_IABT            0x21
#define EC_DABT_LOWER      0x24
#define EC_DABT            0x25
#define EC_BRK             0x3C

#define VECTOR_EL1H        0x200
#define VECTOR_EL0         0x400
#define SPSR_EL1H          0x3C5
#define SPSR_EL0T          0x3C0

#define LOG_SIZE 8
static struct taken taken_log[LOG_SIZE];
static unsigned taken_count, checked_count;
static bool all_ok = true;

/* SVC returns after itself already; an instruction abort has no next instruction, only a caller. */
static u64 resume_after(const struct own_frame *frame) {
    switch (ESR_EC(frame->taken.esr)) {
    case EC_SVC: return frame->taken.elr;
    case EC_IABT: return frame->x30;
    default: return frame->taken.elr + 4;
    }
}

/* Called by own_entry; returns to frame->taken.elr with frame->taken.spsr. */
__attribute__((used)) void on_exception(struct own_frame *frame) {
    taken_log[taken_count++ % LOG_SIZE] = frame->taken;
    frame->taken.elr = resume_after(frame);
    if (frame->taken.vector != VECTOR_EL0)
        return;
    if ((frame->taken.esr & 0xFFFF) == SVC_DONE || taken_count >= LOG_SIZE) {
        frame->taken.elr = (u64)left_el0;
        frame->taken.spsr = SPSR_EL1H;
    }
}

struct wanted {
    const char *name;
    u32 ec;
    u32 mask, iss;          /* the syndrome under a mask: some of its bits are optional */
    const char *elr;
    const void *far;        /* NULL: this class leaves FAR_EL1 UNKNOWN */
};

#define IMM16(imm)    .mask = 0xFFFF, .iss = (imm)
/* DFSC or IFSC in bits 5:0, WnR in bit 6 (DDI 0487). */
#define FAULT(status) .mask = 0x7F, .iss = (status)
#define WRITE         0x40
#define EXTERNAL      0x10
#define TRANSLATION_2 0x06
#define PERMISSION_3  0x0F

static void check_next(u64 vector, u64 spsr, const struct wanted *wanted) {
    if (checked_count == taken_count) {
        printf("%-34s FAIL: not taken\n", wanted->name);
        all_ok = false;
        return;
    }
    const struct taken *taken = &taken_log[checked_count++ % LOG_SIZE];
    bool ok = taken->vector == vector && (taken->spsr & 0x3DF) == spsr &&
              ESR_EC(taken->esr) == wanted->ec && (taken->esr & wanted->mask) == wanted->iss &&
              taken->elr == (u64)wanted->elr && (!wanted->far || taken->far == (u64)wanted->far);
    printf("%-34s +0x%03llx ESR %08llx ELR %08llx FAR %08llx SPSR %03llx  %s\n", wanted->name,
           taken->vector, taken->esr, taken->elr, wanted->far ? taken->far : 0, taken->spsr & 0x3DF,
           ok ? "ok" : "FAIL");
    all_ok = all_ok && ok;
}

/* Runs one of the do_ snippets, which must except exactly once. */
static void provoke(const char *snippet, const void *address, const struct wanted *wanted) {
    ((void (*)(const void *))snippet)(address);
    check_next(VECTOR_EL1H, SPSR_EL1H, wanted);
    if (checked_count != taken_count) {
        printf("%-34s FAIL: taken %u times too often\n", wanted->name, taken_count - checked_count);
        checked_count = taken_count;
        all_ok = false;
    }
}

/* ---- the identity map, DDI 0487 ---- */

#define PAGE_SIZE   0x1000
#define BLOCK_SIZE  0x200000
#define ENTRIES     512

#define VALID_BLOCK 0x1
#define VALID_TABLE 0x3         /* also a page, at level 3 */
#define DEVICE      (0ull << 2) /* index into MAIR_EL1 */
#define NORMAL      (1ull << 2)
#define EL0_TOO     (1ull << 6) /* AP[1] */
#define READ_ONLY   (1ull << 7) /* AP[2] */
#define SHAREABLE   (3ull << 8)
#define ACCESSED    (1ull << 10)
#define PXN         (1ull << 53)
#define UXN         (1ull << 54)

#define MAIR        0xFF00      /* 0: Device-nGnRnE, 1: Normal write-back */
/* T0SZ 25 (level 1 first), write-back inner-shareable walks, TTBR1 off (EPD1), 40-bit PA. */
#define TCR         (25ull | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2ull << 32)
#define SCTLR_M_C_I (1 << 0 | 1 << 2 | 1 << 12)

#define HOLE     ((const void *)0x0F000000)     /* nothing on the virt machine, never mapped */
#define UART     0x09000000
#define RAM      0x40000000

static u64 level1[ENTRIES] __attribute__((aligned(PAGE_SIZE)));
static u64 level2_devices[ENTRIES] __attribute__((aligned(PAGE_SIZE)));
static u64 level2_ram[ENTRIES] __attribute__((aligned(PAGE_SIZE)));
static u64 level3_image[ENTRIES] __attribute__((aligned(PAGE_SIZE)));
static u8 el0_stack[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

extern char __text_start[], __rodata_start[], __data_start[];

static bool within(u64 at, const char *start, const char *end) {
    return at >= (u64)start && at < (u64)end;
}

/* The image as guest.ld laid it out, and the two pages that EL0 may use. */
static u64 permissions(u64 page) {
    if (page == (u64)el0_program)
        return EL0_TOO | READ_ONLY | PXN;
    if (page == (u64)el0_stack)
        return EL0_TOO | PXN | UXN;
    if (within(page, __text_start, __rodata_start))
        return READ_ONLY | UXN;
    if (within(page, __rodata_start, __data_start))
        return READ_ONLY | PXN | UXN;
    return PXN | UXN;
}

static void build_map(void) {
    level1[0] = (u64)level2_devices | VALID_TABLE;
    level1[1] = (u64)level2_ram | VALID_TABLE;
    level2_devices[UART / BLOCK_SIZE] = UART | PXN | UXN | ACCESSED | DEVICE | VALID_BLOCK;
    level2_ram[0] = (u64)level3_image | VALID_TABLE;
    for (u64 i = 1; i < ENTRIES; i++)
        level2_ram[i] = (RAM + i * BLOCK_SIZE) | PXN | UXN | ACCESSED | SHAREABLE | NORMAL |
                        VALID_BLOCK;
    for (u64 i = 0; i < ENTRIES; i++) {
        u64 page = RAM + i * PAGE_SIZE;
        level3_image[i] = page | permissions(page) | ACCESSED | SHAREABLE | NORMAL | VALID_TABLE;
    }
}

static void mmu_on(void) {
    build_map();
    write_sysreg(mair_el1, MAIR);
    write_sysreg(tcr_el1, TCR);
    write_sysreg(ttbr0_el1, level1);
    __asm__ volatile("dsb ish\n\ttlbi vmalle1\n\tdsb ish\n\tisb" ::: "memory");
    write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) | SCTLR_M_C_I);
    puts("MMU on\n");
}

/* ---- the three acts ---- */

#define PROVOKE(snippet, address, ...) provoke(snippet, address, &(struct wanted){__VA_ARGS__})

static void with_mmu_off(void) {
    PROVOKE(do_svc, 0, "SVC #0x42", EC_SVC, IMM16(0x42), .elr = do_svc + 4);
    PROVOKE(do_udf, 0, "UDF", EC_UNKNOWN, IMM16(0), .elr = do_udf);
    PROVOKE(do_brk, 0, "BRK #7", EC_BRK, IMM16(7), .elr = do_brk);
    PROVOKE(do_load, HOLE, "load from nowhere, MMU off", EC_DABT, FAULT(EXTERNAL), .elr = do_load,
            .far = HOLE);
}

static void with_mmu_on(void) {
    PROVOKE(do_svc, 0, "SVC #0x42, MMU on", EC_SVC, IMM16(0x42), .elr = do_svc + 4);
    PROVOKE(do_load, HOLE, "load from the hole", EC_DABT, FAULT(TRANSLATION_2), .elr = do_load,
            .far = HOLE);
    PROVOKE(do_store, HOLE, "store to the hole", EC_DABT, FAULT(WRITE | TRANSLATION_2),
            .elr = do_store, .far = HOLE);
    PROVOKE(do_store, __rodata_start, "store to read-only data", EC_DABT,
            FAULT(WRITE | PERMISSION_3), .elr = do_store, .far = __rodata_start);
    PROVOKE(do_jump, HOLE, "jump into the hole", EC_IABT, FAULT(TRANSLATION_2), .elr = HOLE,
            .far = HOLE);
    PROVOKE(do_jump, el0_program, "jump to a PXN page", EC_IABT, FAULT(PERMISSION_3),
            .elr = el0_program, .far = el0_program);
}

#define FROM_EL0(...) check_next(VECTOR_EL0, SPSR_EL0T, &(struct wanted){__VA_ARGS__})

/* A register of EL1's is UNDEFINED at EL0; some report it as a trapped MRS. Both are accepted. */
static u32 class_of_mrs(void) {
    u32 ec = ESR_EC(taken_log[checked_count % LOG_SIZE].esr);
    return ec == EC_SYSREG ? EC_SYSREG : EC_UNKNOWN;
}

static void from_el0(void) {
    taken_count = checked_count = 0;
    enter_el0(el0_program, el0_stack + sizeof(el0_stack), (u64)taken_log);
    FROM_EL0("EL0: SVC #0x123", EC_SVC, IMM16(0x123), .elr = el0_svc + 4);
    FROM_EL0("EL0: HVC, UNDEFINED there", EC_UNKNOWN, IMM16(0), .elr = el0_hvc);
    FROM_EL0("EL0: MRS of SCTLR_EL1", class_of_mrs(), .elr = el0_mrs);
    FROM_EL0("EL0: load from EL1's page", EC_DABT_LOWER, FAULT(PERMISSION_3), .elr = el0_load,
             .far = taken_log);
    FROM_EL0("EL0: SVC to return", EC_SVC, IMM16(SVC_DONE), .elr = el0_done + 4);
}

int main(const void *dtb) {
    (void)dtb;
    write_sysreg(vbar_el1, own_vectors);
    with_mmu_off();
    mmu_on();
    with_mmu_on();
    from_el0();
    if (taken_count != checked_count || !all_ok) {
        puts("exceptions: FAIL\n");
        return 1;
    }
    puts("exceptions: all ok\n");
    return 0;
}
