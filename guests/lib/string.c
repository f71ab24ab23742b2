/* The memory functions a freestanding C compiler may call on its own, byte by byte. */
#include "guest.h"

void *memcpy(void *to, const void *from, size_t length) {
    for (size_t i = 0; i < length; i++)
        ((u8 *)to)[i] = ((const u8 *)from)[i];
    return to;
}

void *memmove(void *to, const void *from, size_t length) {
    if ((u8 *)to <= (const u8 *)from)
        return memcpy(to, from, length);
    while (length--)
        ((u8 *)to)[length] = ((const u8 *)from)[length];
    return to;
}

void *memset(void *to, int byte, size_t length) {
    for (size_t i = 0; i < length; i++)
        ((u8 *)to)[i] = (u8)byte;
    return to;
}

int memcmp(const void *left, const void *right, size_t length) {
    const u8 *a = left, *b = right;
    for (size_t i = 0; i < length; i++)
        if (a[i] != b[i])
            return a[i] - b[i];
    return 0;
}

size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

int strcmp(const char *left, const char *right) {
    while (*left && *left == *right)
        left++, right++;
    return (u8)*left - (u8)*right;
}
