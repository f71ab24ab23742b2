/*
 * What C cannot say: relocations that compilers seldom emit, and functions that break AAPCS64.
 * Linked with discovery.c by the tests of objects.
 */
#include "../lib/smccc.h"

    .macro  function name
    .section .text.\name, "ax"
    .global \name
    .type \name, %function
\name:
    .endm

    .macro  end name
    .size \name, . - \name
    .endm

/* w0 = which way to take to `landed`, each by a relocation of its own. */
    function branches
    tbz     w0, #0, landed                  // TSTBR14
    cmp     w0, #3
    b.eq    landed                          // CONDBR19
    cbnz    w0, landed_too                  // CONDBR19
    b       landed                          // JUMP26
    end branches

    function landed
    mov     x0, #1
    ret
    end landed

    function landed_too
    mov     x0, #2
    ret
    end landed_too

/* Is an address the same by every way of making it? x0 = 0 if so. */
    function addresses
    adrp    x1, words                       // ADR_PREL_PG_HI21
    add     x1, x1, :lo12:words             // ADD_ABS_LO12_NC
    adr     x2, words                       // ADR_PREL_LO21
    movz    x3, #:abs_g3:words              // MOVW_UABS_G3 and below
    movk    x3, #:abs_g2_nc:words
    movk    x3, #:abs_g1_nc:words
    movk    x3, #:abs_g0_nc:words
    adrp    x4, :got:words                  // ADR_GOT_PAGE
    ldr     x4, [x4, :got_lo12:words]       // LD64_GOT_LO12_NC
    ldr     x5, words                       // LD_PREL_LO19: words[0] holds its own address
    adrp    x6, words + 16
    ldr     x6, [x6, :lo12:words + 16]      // LDST64
    add     x6, x6, x1
    add     x6, x6, #16
    adrp    x7, words + 8
    ldrsw   x7, [x7, :lo12:words + 8]       // LDST32
    add     x7, x7, x1
    add     x7, x7, #8
    adrp    x8, words + 12
    ldr     w8, [x8, :lo12:words + 12]      // ABS32
    adrp    x9, words + 24
    ldrsh   x9, [x9, :lo12:words + 24]      // LDST16
    add     x9, x9, x1
    add     x9, x9, #24
    adrp    x10, words + 31
    ldrb    w10, [x10, :lo12:words + 31]    // LDST8
    cmp     x1, x2
    ccmp    x1, x3, #0, eq
    ccmp    x1, x4, #0, eq
    ccmp    x1, x5, #0, eq
    ccmp    x1, x6, #0, eq
    ccmp    x1, x7, #0, eq
    ccmp    x1, x8, #0, eq
    ccmp    x1, x9, #0, eq
    ccmp    w10, #5, #0, eq
    cset    x0, ne
    ret
    end addresses

    .section .data.words, "aw"
    .balign 16
    .global words
    .type words, %object
words:
    .xword  words                           // ABS64
    .word   words - .                       // no relocation: the assembler knows it
    .word   words                           // ABS32
    .xword  words - .
    .hword  words - .
    .hword  0, 0
    .byte   0, 5
    .size words, . - words

    .section .rodata.distances, "a"
    .balign 8
    .global distances
    .type distances, %object
distances:
    .xword  landed - .                      // PREL64
    .word   landed - .                      // PREL32
    .hword  near - .                        // PREL16
    .hword  0
    .size distances, . - distances

    .section .rodata.near, "a"
near:
    .word   0x600d

    function call_and_return                // CALL26 to another object
    stp     x29, x30, [sp, #-16]!
    bl      psci_version
    bl      nobody_at_all                   // weak and undefined: goes on behind itself
    ldp     x29, x30, [sp], #16
    ret
    end call_and_return
    .weak   nobody_at_all

    function clobbers
    mov     x19, #1
    mov     x28, #2
    mov     x0, #3
    ret
    end clobbers

    function leaks_stack
    sub     sp, sp, #32
    ret
    end leaks_stack

    function returns_elsewhere              // to x0
    mov     x30, x0
    ret
    end returns_elsewhere

    function traps
    svc     #5
    ret
    end traps

    function sleeps
    wfi
    ret
    end sleeps

    function secondary                      // x0 = the context id of CPU_ON; there is no stack
    adrp    x1, secondary_context
    str     x0, [x1, :lo12:secondary_context]
    ldr     w0, =PSCI_CPU_OFF
    hvc     #0
    b       secondary
    end secondary
