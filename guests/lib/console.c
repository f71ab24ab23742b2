/*
 * The console: a PL011 UART (Arm DDI 0183) polled at the address of QEMU's virt machine, left as
 * the firmware set it up. Output only; a newline is sent as it is.
 */
#include "guest.h"

#define PL011_DR ((volatile u32 *)0x09000000)
#define PL011_FR ((volatile u32 *)0x09000018)
#define PL011_FR_TXFF (1u << 5)     /* transmit FIFO full */

void putc(char c) {
    while (*PL011_FR & PL011_FR_TXFF)
        ;
    *PL011_DR = (u8)c;
}

void puts(const char *text) {
    while (*text)
        putc(*text++);
}

struct field { unsigned width; bool left, zero; };

static void pad(int count, char c) {
    while (count-- > 0)
        putc(c);
}

static void print_text(const char *text, struct field field) {
    int blanks = (int)field.width - (int)strlen(text);
    if (!field.left)
        pad(blanks, ' ');
    puts(text);
    if (field.left)
        pad(blanks, ' ');
}

static void print_number(u64 value, u32 base, bool negative, struct field field) {
    char digits[24];
    char *first = digits + sizeof(digits) - 1;
    *first = '\0';
    do
        *--first = "0123456789abcdef"[value % base];
    while (value /= base);
    if (field.zero && !field.left) {
        if (negative)
            putc('-');
        pad((int)field.width - (int)strlen(first) - negative, '0');
        puts(first);
        return;
    }
    if (negative)
        *--first = '-';
    print_text(first, field);
}

static u64 next_number(__builtin_va_list *list, bool is_long, bool is_signed) {
    if (is_long)
        return __builtin_va_arg(*list, u64);
    u32 value = __builtin_va_arg(*list, u32);
    return is_signed ? (u64)(s64)(s32)value : value;
}

static const char *print_directive(const char *at, __builtin_va_list *list) {
    struct field field = {0};
    bool is_long = false;
    for (; *at == '-' || *at == '0'; at++)
        *(*at == '-' ? &field.left : &field.zero) = true;
    for (; *at >= '0' && *at <= '9'; at++)
        field.width = field.width * 10 + (unsigned)(*at - '0');
    for (; *at == 'l'; at++)
        is_long = true;
    switch (*at) {
    case 's': print_text(__builtin_va_arg(*list, const char *), field); break;
    case 'c': putc((char)__builtin_va_arg(*list, int)); break;
    case 'u': print_number(next_number(list, is_long, false), 10, false, field); break;
    case 'x': print_number(next_number(list, is_long, false), 16, false, field); break;
    case 'd': {
        s64 value = (s64)next_number(list, is_long, true);
        print_number(value < 0 ? -(u64)value : (u64)value, 10, value < 0, field);
        break;
    }
    default: putc(*at);
    }
    return at + 1;
}

void printf(const char *format, ...) {
    __builtin_va_list list;
    __builtin_va_start(list, format);
    while (*format) {
        if (*format == '%')
            format = print_directive(format + 1, &list);
        else
            putc(*format++);
    }
    __builtin_va_end(list);
}

void print_uuid(const u32 words[4]) {
    for (unsigned i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            putc('-');
        printf("%02x", words[i / 4] >> (i % 4 * 8) & 0xFF);
    }
}
