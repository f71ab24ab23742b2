/*
 * spin: sixteen simple integer instructions in a loop, for measuring instructions per second and
 * checking instruction and cycle counts: the loop retires exactly 16 * loop_count instructions.
 *
 * The number of turns is the 64-bit word at the symbol `loop_count`: patch it before the run.
 */
// run: profile=kvm-6.12 cpus=1
// expect: exit=0

    .section .text.main, "ax"
    .global main
    .type main, %function
main:
    adrp    x1, loop_count
    ldr     x1, [x1, :lo12:loop_count]
    mov     x2, #0
    cbz     x1, 2f
1:  add     x2, x2, x1
    eor     x3, x2, x1
    lsr     x4, x3, #3
    add     x5, x4, x2
    orr     x6, x5, #0xff
    sub     x7, x6, x3
    and     x8, x7, x2
    add     x9, x8, #7
    eor     x10, x9, x5
    lsl     x11, x10, #2
    add     x12, x11, x6
    sub     x13, x12, x7
    orr     x14, x13, x8
    add     x2, x14, x2
    subs    x1, x1, #1
    b.ne    1b
2:  mov     w0, #0                          // start.S exits with main's value
    ret
    .size main, . - main

    .data
    .balign 8
    .global loop_count
    .type loop_count, %object
    .size loop_count, 8
loop_count:
    .quad   25000000
