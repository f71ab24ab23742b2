/*
 * From the first instruction to main(), for the boot CPU and for CPUs started by PSCI CPU_ON, and
 * the default exception vectors.
 *
 * A guest is entered like a Linux Image (Documentation/arch/arm64/booting.rst): EL1, MMU off,
 * interrupts masked, x0 = the physical address of the device tree. A secondary is entered as
 * DEN0022 says: the same state, x0 = the context id given to CPU_ON. Nothing else in the
 * registers is relied upon.
 */
#include "smccc.h"

    .section .text.start, "ax"
    .global _start
    .type _start, %function
_start:
    mov     x19, x0                         // the device tree survives the clearing of .bss
    adrp    x1, cpu_stacks + STACK_SIZE
    add     x1, x1, :lo12:cpu_stacks + STACK_SIZE
    mov     sp, x1
    adrp    x1, __bss_start
    add     x1, x1, :lo12:__bss_start
    adrp    x2, __bss_end
    add     x2, x2, :lo12:__bss_end
1:  cmp     x1, x2
    b.hs    2f
    stp     xzr, xzr, [x1], #16
    b       1b
2:  bl      install_vectors
    mov     x0, x19
    bl      main
    b       exit_with                       // main's value is the exit status
    .size _start, . - _start

/*
 * The entry point to give CPU_ON. The context id belongs to the guest, so the stack cannot come
 * from it: the CPU finds its own MPIDR in the list that the boot CPU read from the device tree.
 */
    .global secondary_start
    .type secondary_start, %function
secondary_start:
    mrs     x2, mpidr_el1
    ldr     x3, =MPIDR_AFFINITY
    and     x2, x2, x3
    adrp    x3, cpu_mpidr
    add     x3, x3, :lo12:cpu_mpidr
    mov     x1, #0                          // x1 = this CPU's index, as secondary_main wants
1:  ldr     x4, [x3, x1, lsl #3]
    cmp     x4, x2
    b.eq    2f
    add     x1, x1, #1
    cmp     x1, #MAX_CPUS
    b.lo    1b
    adrp    x1, stranger_exit               // not in the device tree, so no stack to report from
    add     x1, x1, :lo12:stranger_exit
    mov     w0, #SYS_EXIT_EXTENDED
    hlt     #0xf000
2:  adrp    x4, cpu_stacks
    add     x4, x4, :lo12:cpu_stacks
    add     x5, x1, #1
    mov     x6, #STACK_SIZE
    madd    x4, x5, x6, x4
    mov     sp, x4
    bl      install_vectors
    bl      secondary_main
3:  wfi
    b       3b
    .size secondary_start, . - secondary_start

    .type install_vectors, %function
install_vectors:                            // uses x9 only: the arguments of main pass through
    adrp    x9, default_vectors
    add     x9, x9, :lo12:default_vectors
    msr     vbar_el1, x9
    isb
    ret
    .size install_vectors, . - install_vectors

/*
 * The default vectors save a struct frame, ask default_exception(), and return by ERET if it does:
 * it returns for a guarded instruction only.
 */
#define FRAME_SIZE 288                      // struct frame in guest.h

    .macro  each_pair operation
    \operation x2,  x3,  [sp, #16]
    \operation x4,  x5,  [sp, #32]
    \operation x6,  x7,  [sp, #48]
    \operation x8,  x9,  [sp, #64]
    \operation x10, x11, [sp, #80]
    \operation x12, x13, [sp, #96]
    \operation x14, x15, [sp, #112]
    \operation x16, x17, [sp, #128]
    \operation x18, x19, [sp, #144]
    \operation x20, x21, [sp, #160]
    \operation x22, x23, [sp, #176]
    \operation x24, x25, [sp, #192]
    \operation x26, x27, [sp, #208]
    \operation x28, x29, [sp, #224]
    .endm

    .section .text.vectors, "ax"
    .balign 2048
    .global default_vectors
    .type default_vectors, %function
default_vectors:
    .irp offset, 0x000, 0x080, 0x100, 0x180, 0x200, 0x280, 0x300, 0x380, \
                 0x400, 0x480, 0x500, 0x580, 0x600, 0x680, 0x700, 0x780
    .balign 128
    sub     sp, sp, #FRAME_SIZE
    stp     x0, x1, [sp]
    mov     x0, #\offset
    b       save_and_report
    .endr
    .balign 128
    .size default_vectors, . - default_vectors

    .type save_and_report, %function
save_and_report:
    each_pair stp
    mrs     x1, elr_el1
    stp     x30, x1, [sp, #240]
    mrs     x1, spsr_el1
    mrs     x2, esr_el1
    stp     x1, x2, [sp, #256]
    mrs     x1, far_el1
    stp     x1, x0, [sp, #272]
    mov     x0, sp
    bl      default_exception
    ldp     x30, x1, [sp, #240]
    msr     elr_el1, x1
    ldr     x1, [sp, #256]
    msr     spsr_el1, x1
    each_pair ldp
    ldp     x0, x1, [sp]
    add     sp, sp, #FRAME_SIZE
    eret
    .size save_and_report, . - save_and_report

    .section .rodata, "a"
    .balign 8
stranger_exit:
    .quad   ADP_STOPPED_APPLICATION_EXIT, EXIT_UNKNOWN_CPU

    .section .stacks, "aw", %nobits
    .balign 16
    .global cpu_stacks
cpu_stacks:
    .skip   MAX_CPUS * STACK_SIZE
